"""What is imported where: the front end without torch, the client without the engine."""

import subprocess
import sys


def python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_front_end_imports_no_torch() -> None:
    code = (
        "import sys, lepton_service.app, lepton_engine.engine\n"
        "print([name for name in ('torch', 'numpy', 'transformers') if name in sys.modules])"
    )
    assert python(code).strip() == "[]"


def test_health_is_served_before_tokenizers_are_imported() -> None:
    code = "import sys, lepton_service.app\nprint([name for name in ('tokenizers', 'jinja2') if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_client_commands_need_no_engine() -> None:
    code = (
        "import sys\n"
        "sys.modules['lepton_engine'] = None\n"
        "import lepton_service.client, lepton_service.load\n"
        "from lepton_service import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "sys.exit(0 if cli.main(['generate', 'x']) == 1 else 'the missing engine was not explained')"
    )
    shown = python(code)
    for command in ("serve", "generate", "chat", "bench"):
        assert command in shown
