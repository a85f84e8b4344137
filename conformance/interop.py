"""grpc-go's interop client against our stack: every case that needs nothing of Google's clouds."""

import subprocess
from pathlib import Path

from conformance.rows import Row
from conformance.running import Running

CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
)
# The client's other cases, and why they say nothing about this server. Tests hold both lists against the client's own.
NOT_APPLICABLE = {
    "compute_engine_creds": "credentials of Google Compute Engine",
    "compute_engine_channel_credentials": "credentials of Google Compute Engine",
    "service_account_creds": "a Google service account",
    "jwt_token_creds": "a Google service account",
    "per_rpc_creds": "a Google service account",
    "oauth2_auth_token": "a Google service account",
    "google_default_credentials": "credentials of Google's clouds",
    "pick_first_unary": "the client's choice between several servers",
    "orca_per_rpc": "a load report with the figures of the request; ours has the engine's",
    "orca_oob": "OpenRcaService, which we do not serve: the operator asks StatsService",
}


def run(programs: Path, server: Running, timeout: float = 60.0) -> Row:
    """Runs the cases one after the other."""
    arguments = [str(programs / "client"), "--server_host=127.0.0.1", f"--server_port={server.port}"]
    if server.authority is not None:
        arguments += ["--use_tls=true", "--use_test_ca=true", f"--ca_file={server.authority}"]
        arguments += ["--server_host_override=localhost"]
    wrong = []
    for case in CASES:
        said = _failure([*arguments, f"--test_case={case}"], timeout)
        if said is not None:
            wrong.append(f"{case}: {said}")
    return Row("grpc-go interop", server.connection, len(CASES) - len(wrong), 0, wrong)


def _failure(command: list[str], timeout: float) -> str | None:
    """The last line that a failed case says; None for success."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return f"no end after {timeout:g} s"
    return None if done.returncode == 0 else (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
