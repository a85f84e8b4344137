"""Templates that try to leave the sandbox, or to work or grow without end."""

import contextlib

import pytest

from lepton_engine.errors import InvalidRequestError
from lepton_engine.text.chat_template import ChatTemplate

CHAT = [{"role": "user", "content": "x"}]

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ raise_exception.__globals__ }}",
    "{{ raise_exception.__globals__['json'] }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ dict.__class__.__init__.__globals__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ joiner.__init__.__globals__.os }}",
    "{{ (messages|map(attribute='__class__')|first).__mro__ }}",
    "{{ messages|attr('__class__') }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "{{ '{m.__class__}'.format_map({'m': messages}) }}",
    "{{ ''|attr('format')|attr('__globals__') }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{{ namespace(__class__=1) }}",
    "{{ messages.append({'role': 'user'}) }}",
    "{{ messages[0].update({'content': 'y'}) }}",
    "{% for m in messages %}{{ loop.__init__.__globals__ }}{% endfor %}",
    "{% macro m() %}{{ m.__globals__ }}{{ caller.__code__ }}{% endmacro %}{{ m.__init__.__globals__ }}",
    "{% include 'secrets' %}",
    "{% import 'os' as os %}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_no_way_out(source: str) -> None:
    text = ""
    with contextlib.suppress(InvalidRequestError):
        text = ChatTemplate(source).render(CHAT)
    # Attributes that the sandbox hides are undefined, and print as nothing.
    assert "class" not in text
    assert "<" not in text
    assert CHAT == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ messages.append(1) }}",
        "{{ namespace(__class__=1) }}",
    ],
)
def test_an_attempt_is_reported(source: str) -> None:
    with pytest.raises(InvalidRequestError, match="the template was stopped") as caught:
        ChatTemplate(source).render(CHAT)
    assert caught.value.field == "chat_template"


ENDLESS = [
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% if i > j %}{% endif %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(9999) %}xxxxxxxxxx{% endfor %}{% endfor %}",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{% macro m(n) %}{% if n %}{% set x = m(n - 1) %}{% set y = m(n - 1) %}{% endif %}{% endmacro %}{{ m(40) }}",
    "{% for a in [[[]]] recursive %}{{ loop([[a]]) }}{% endfor %}",
    "{{ 'x' * 10**9 }}",
    "{{ 10**9 * 'x' }}",
    "{{ [1] * 10**9 }}",
    "{{ 9**(9**9) }}",
    "{% set ns = namespace(n=9) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ''.join([ns.s, ns.s]) %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s | replace('x', 'xx') %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = '%s%s' % (ns.s, ns.s) %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = '%s%s' | format(ns.s, ns.s) %}{% endfor %}",
    "{{ 'x'.ljust(10**9) }}",
    "{{ 'x'.center(10**9) }}",
    "{{ 'x'.zfill(10**9) }}",
    "{{ 'a\\tb'.expandtabs(10**9) }}",
    "{{ 'x' | center(10**9) }}",
    "{{ 'x\\ny' | indent(10**9) }}",
    "{{ [1] | batch(10**9, 'x') | list }}",
    "{{ [1] | slice(10**9) | list }}",
    "{{ {'a': [1]} | tojson(indent=10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{w}}'.format(1, w=10**9) }}",
    "{{ '{:{w}}'.format_map({'w': 10**9}) }}",
    "{{ lipsum(10**6) }}",
    "{% set s = 'x' * 10**6 %}{{ [s] * 10**5 }}",
    "{% set s = 'x' * 10**6 %}{{ ([s] * 10**5) ~ '' }}",
    "{% set s = 'x' * 10**6 %}{{ [[[s] * 10**3] * 10**3] | tojson }}",
    "{% set s = 'x' * 10**6 %}{{ ([s] * 10**5) | string }}",
    "{% set s = 'x' * 10**6 %}{{ ([s] * 10**5) | upper }}",
    "{% set s = 'x' * 10**6 %}{{ ([s] * 10**5) | join }}",
    "{% set s = 'x' * 10**6 %}{{ [1] * 10**5 | join(s) }}",
    "{% set s = 'x' * 10**6 %}{{ '%s' % ([s] * 10**5) }}",
    "{% set s = 'x' * 10**6 %}{{ '%s' % ([s] * 10**5,) }}",
    "{% set s = 'x' * 10**6 %}{{ '%s' | format([s] * 10**5) }}",
    "{% set s = 'x' * 10**6 %}{{ '{0}'.format([s] * 10**5) }}",
    "{% set s = 'x' * 10**6 %}{{ ('{0}' * 10**5).format(s) }}",
    "{% set s = 'x' * 10**6 %}{{ ('%(a)s' * 10**5) % {'a': s} }}",
    "{% set s = 'x' * 10**6 %}{{ s.translate({120: s}) }}",
    "{% set s = '\n' * 10**6 %}{{ s | indent(10**5, true, true) }}",
    "{% set s = 'x ' * 10**6 %}{{ s | wordwrap(1, wrapstring=s) }}",
    "{% set s = '\t' * 10**6 %}{{ s.expandtabs(10**5) }}",
    "{{ ([[1] * 10**5] * 10**4) | sum(start=[]) }}",
    "{{ ([[1] * 10**5] * 10**4) | sum('x', []) }}",
]


@pytest.mark.parametrize("source", ENDLESS)
def test_work_and_size_are_bounded(source: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ChatTemplate(source).render(CHAT)
    assert "memory" not in str(caught.value)  # stopped before, not by, its allocation


def test_a_budget_is_for_one_rendering() -> None:
    template = ChatTemplate("{% for i in range(75000) %}{{ i }}{% endfor %}")
    for _ in range(3):
        assert template.render(CHAT).endswith("74999")


def test_long_conversations_fit_the_budget() -> None:
    chat = [{"role": role, "content": "文" * 1000} for role in ("user", "assistant")] * 2000
    text = ChatTemplate("{% for m in messages %}{{ m.role ~ ': ' ~ m.content | trim }}\n{% endfor %}").render(chat)
    assert len(text) > 4_000_000


def test_what_ordinary_templates_do_is_left_alone() -> None:
    source = (
        "{{ '%d %s' % (1700000000, 'x') }}|{{ '%s-%s' | format('a', 'b') }}|{{ '{}'.format(1700000000) }}|"
        "{{ '{:>6}|{{}}'.format('ab') }}|{{ '{a}'.format_map({'a': 1}) }}|{{ 1700000000 | default(10**9) }}|"
        "{{ ['a', 'b'] | join(', ') }}|{{ ', '.join(['a', 'b']) }}|{{ 'a-b'.replace('-', '+') }}|{{ [1, 2] | sum }}|"
        "{{ 'x\ny' | indent(2, true) }}|{{ {'a': [1, 'é']} | tojson(indent=2) }}|{{ 'ab'.ljust(4) }}|"
        "{{ 'x' ~ 1 ~ [2] }}|"
        "{{ [3, 1] | sort }}|{{ 'a,b'.split(',') }}|{{ 7 ** 2 }}|{{ 'ab' * 2 }}|"
        "{{ messages | map(attribute='role') | list }}"
    )
    expected = (
        "1700000000 x|a-b|1700000000|    ab|{}|1|1700000000|a, b|a, b|a+b|3|  x\n  y|"
        "{\n  \"a\": [\n    1,\n    \"é\"\n  ]\n}|ab  |x1[2]|[1, 3]|['a', 'b']|49|abab|['user']"
    )
    assert ChatTemplate(source).render(CHAT) == expected
