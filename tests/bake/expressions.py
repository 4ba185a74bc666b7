"""Expressions of bake files: written ones of every form, and random ones."""

from __future__ import annotations

import random

VARS = {
    "TAG": "v1.2.3",
    "EMPTY": "",
    "REG": "reg.example/Team",
    "N": 3,
    "DEBUG": True,
    "OFF": False,
    "LIST": ["b", "a", "", "a"],
    "MAP": {"x": "1", "y": "two"},
    "ROWS": [{"n": "p", "v": ["1", "2"]}, {"n": "q", "v": []}],
    "NOTHING": None,
}

WRITTEN = r"""
"a${TAG}b"
"${TAG}"
"${N}"
"${N + 1}/${DEBUG}"
"$${TAG} %%{ if } $ % $$ %%"
"\n\t\"\\\u00e9\U0001F600"
"\x"
"${TAG
"%{ if DEBUG }yes%{ else }no%{ endif }"
"%{ if OFF }yes%{ endif }."
"%{ for v in LIST }<${v}>%{ endfor }"
"%{ for k, v in MAP }${k}=${v};%{ endfor }"
"%{ for k, v in LIST }${k}%{ if v == "" }!%{ endif }%{ endfor }"
"a ${~ TAG ~} b"
"a %{~ if DEBUG ~} b %{~ endif ~} c"
"%{ endif }"
"%{ if DEBUG }"
"${}"
"${"${TAG}"}"
"${[1, 2]}"
"${NOTHING}"
"${NOTHING == null}"
1 + 2 * 3
(1 + 2) * 3
7 / 2
1 / 3
7 % 3
-7 % 3
-N
- -1
!DEBUG
!!DEBUG
1 / 0
1.5
1e3
1.50
0.1 + 0.2
12345678901234567890123
1 < 2 && 2 < 1 || DEBUG
1 == 1.0
"1" == 1
true == "true"
"a" == "a"
[1] == [1]
{a = 1} == {a = 1}
null == null
"" == null
TAG != "x"
"1" + 1
"x" + 1
"true" && true
"yes" && true
1 >= 1
"b" > "a"
DEBUG ? "a" : "b"
DEBUG ? TAG : EMPTY
OFF ? 1 : 2
"true" ? 1 : 2
EMPTY ? 1 : 2
DEBUG ? "a" : OFF ? "b" : "c"
DEBUG ? [1] : []
[1, "a", true, null]
["a",
 "b", # a note
 "c"]
["a" "b"]
[1, 2, ]
[]
{}
{a = 1, "b" = 2, (TAG) = 3, "x${N}" = 4, c: 5}
{
  a = 1
  b = 2 // note

  c = 3
}
{a = 1 b = 2}
{a-b = 1}
LIST[0]
LIST[9]
LIST[-1]
LIST["1"]
LIST.0
MAP.x
MAP["y"]
MAP.z
ROWS[0].v[1]
ROWS[*].n
ROWS.*.n
ROWS.*.v.0
ROWS[0].v[*]
TAG[*]
NOTHING[*]
ROWS[*].v[0]
[for v in LIST : upper(v)]
[for v in LIST : v if v != ""]
[for i, v in LIST : "${i}${v}"]
[for k, v in MAP : "${k}${v}"]
{for k, v in MAP : k => upper(v)}
{for v in LIST : v => 1}
{for v in LIST : v => 1...}
{for i, v in LIST : i => v}
{for r in ROWS : r.n => r.v if length(r.v) > 0}
[for r in ROWS : [for v in r.v : "${r.n}-${v}"]]
flatten([for r in ROWS : [for v in r.v : "${r.n}-${v}"]])
[for v in TAG : v]
for
if
unknown
nofunction(1)
TAG.x
a::b(1)
equal(TAG, "v1.2.3")
notequal("", TAG)
and(DEBUG, OFF)
or(DEBUG, OFF)
not(DEBUG)
add(1, 2)
subtract(1, 2)
multiply(2, 3)
divide(7, 2)
modulo(7, 2)
modulo(-7, 2)
negate(2)
greaterthan(2, 1)
greaterthanorequalto(2, 2)
lessthan(2, 1)
lessthanorequalto(2, 2)
absolute(-2)
ceil(1.2)
floor(1.8)
floor(-1.2)
int(1.9)
int(-1.9)
signum(-3)
max(1, 5, 3)
min(4, 2)
max()
pow(2, 10)
log(8, 2)
parseint("ff", 16)
parseint("zz", 10)
upper("aé")
lower("AÉ")
title("hello big world")
trimspace("  a ")
trimprefix(TAG, "v")
trimsuffix("a.tar.gz", ".gz")
trim("--a--", "-")
chomp("a\n\n")
strlen("héé")
byteslen("héé")
reverse("abc")
substr("hello", 1, 3)
substr("hello", -3, 2)
substr("hello", 1, -1)
substr("hello", 0, 99)
substr("hello", 4, 10)
replace("a.b.c", ".", "-")
replace("aaa", "a", "")
regex_replace("a.b_c", "[^a-z]+", "-")
regex_replace("v1.2", "v([0-9]+)\\.([0-9]+)", "$2.$1")
regex_replace("v1.2", "v(?P<major>[0-9]+)", "${major}x")
regex_replace("abc", "b", "$$")
regex("[0-9]+", "ab12c")
regex("([a-z])([0-9])", "ab12c")
regex("(?P<l>[a-z])(?P<d>[0-9])", "ab12c")
regex("[0-9]", "abc")
regexall("[0-9]", "a1b2")
regexall("[0-9]", "ab")
regex("[", "abc")
indent(2, "a\nb\nc")
split(",", "a,b,,c")
split(",", "")
split("", "abc")
join("-", ["a", "b"])
join("-", [])
join("-", ["a"], ["b", "c"])
join("-", ["a", 1, true])
join(",", LIST)
sort(["b", "a", "C"])
distinct(["a", "b", "a"])
compact(["a", "", "b"])
compact([])
concat(["a"], ["b", "c"])
concat(["a"], [])
concat(["a"], [1])
concat()
concat("a", ["b"])
flatten([["a", ["b"]], [], "c"])
reverselist(["a", "b"])
slice(["a", "b", "c"], 1, 2)
slice(["a", "b", "c"], 1, 9)
element(["a", "b"], 3)
element([], 0)
element(["a", "b"], -1)
index(["a", "b"], 1)
index(MAP, "x")
hasindex(["a"], 1)
hasindex(MAP, "x")
length(["a"])
length({})
length("abc")
keys(MAP)
values(MAP)
keys({b = 1, a = 2})
lookup(MAP, "x", "d")
lookup(MAP, "z", "d")
merge(MAP, {z = "3", x = "9"})
merge({a = 1}, {b = "x"})
merge()
zipmap(["a", "b"], ["1", "2"])
zipmap(["a", "b"], ["1"])
contains(["a", "b"], "a")
contains(["a", "b"], "z")
coalesce(null, "a")
coalesce("", "a")
coalescelist([], ["a"])
chunklist(["a", "b", "c"], 2)
chunklist(["a", "b", "c"], 0)
range(3)
range(1, 4)
range(1, 10, 3)
range(3, 0)
range(0, 1, 0)
setproduct(["a", "b"], ["1", "2"])
setunion(["b", "a"], ["a", "c"])
setintersection(["b", "a"], ["a", "c"])
setsubtract(["b", "a"], ["a", "c"])
setsymmetricdifference(["b", "a"], ["a", "c"])
sethaselement(["a"], "a")
format("%s-%s", "a", "b")
format("%d", 5)
format("%05d|%-5s|%5s|%+d", 5, "a", "b", 3)
format("%.2f", 1.005)
format("%5.1f|%e", 2.25, 12345.678)
format("%v %v %v", "a", 1, true)
format("%v", ["a", 1])
format("%q", "a\"b")
format("%t", true)
format("%x %X %b %o", 255, 255, 5, 8)
format("%%")
format("%s")
format("%s", "a", "b")
format("%z", "a")
format("%[2]s %[1]s", "a", "b")
format("%.3s", "abcdef")
format("%s", 12)
format("%d", "12")
formatlist("%s:%s", "a", ["x", "y"])
formatlist("%s-%s", ["a", "b"], ["x", "y"])
formatlist("%s-%s", ["a", "b"], ["x"])
formatlist("x%s", [])
jsonencode({b = [1, "x", true, null], a = "<&>"})
jsondecode("{\"a\": [1, 2.5, \"x\", null]}")
jsondecode("{")
csvdecode("a,b\n1,2\n3,4")
formatdate("YYYY-MM-DD'T'hh:mm:ssZ", "2025-01-02T03:04:05Z")
formatdate("YYYYMMDD", "2025-01-02T13:04:05+02:00")
formatdate("EEE, DD MMM YYYY hh:mm:ss ZZZ", "2025-01-02T13:04:05Z")
formatdate("H h AA aa M D YY m s EEEE MMMM ZZZZ ZZZZZ", "2025-11-02T13:04:05-05:30")
formatdate("YYYY", "yesterday")
formatdate("QQ", "2025-01-02T13:04:05Z")
timeadd("2025-01-02T03:04:05Z", "1h30m")
timeadd("2025-01-02T03:04:05Z", "-10m")
timeadd("2025-01-02T03:04:05Z", "soon")
try(MAP.z, "d")
try(MAP.x, "d")
try(MAP.z, LIST[9])
can(MAP.z)
can(MAP.x)
upper(null)
upper(["a"])
upper()
upper("a", "b")
upper(["a"]...)
upper(true)
join("-", ["a", "b"]...)
max([3, 9]...)
concat([["a"], ["b"]]...)
<<EOT
a ${TAG}
  b
EOT
<<-EOT
    a ${TAG}
      b

    c
  EOT
<<-EOT
  ${TAG} x
   y
EOT
<<EOT
\n "quoted" $${x}
EOT
<<EOT
EOT
upper(<<EOT
a
EOT
)
""".strip("\n")


def written() -> list[str]:
    """A new line begins an expression, unless brackets or a here-document go on."""
    found: list[str] = []
    for line in WRITTEN.split("\n"):
        if found and _open(found[-1]):
            found[-1] += "\n" + line
        else:
            found.append(line)
    return found


def _open(code: str) -> bool:
    if "<<" in code:
        end = (code.startswith("upper") and ")") or "EOT"
        return code.count("\n") == 0 or code.rsplit("\n", maxsplit=1)[-1].strip() != end
    first = code[0] if "\n" not in code else code.split("\n", maxsplit=1)[0].strip()[0]
    plain = code.split("#", maxsplit=1)[0] if "\n" not in code else code
    return first in "[{" and not plain.rstrip().endswith(("]", "}", ")")) and "}" not in code[-2:]


def random_one(rng: random.Random, depth: int = 3) -> str:
    return _TYPES[rng.choice("sssnbl")](rng, depth)


def _text(rng: random.Random, depth: int) -> str:
    if depth <= 0 or rng.random() < 0.2:
        return rng.choice(
            ['"a"', '""', '"x.y-Z"', "TAG", "REG", "EMPTY", "MAP.x", '" b "', "LIST[1]"]
        )
    sub = depth - 1
    t, n, b, ls = (_text(rng, sub), _number(rng, 0), _truth(rng, sub), _list(rng, sub))
    return rng.choice(
        [
            f'"p${{{t}}}-${{{n}}}"',
            f'"${{{t}}}%{{ if {b} }}y%{{ else }}${{{t}}}%{{ endif }}"',
            f"({b} ? {t} : {_text(rng, sub)})",
            f"upper({t})",
            f"lower({t})",
            f"trimspace({t})",
            f'trimprefix({t}, "v")',
            f'trimsuffix({t}, "3")',
            f'replace({t}, ".", "_")',
            f'join("-", {ls})',
            f'join("/", compact({ls}))',
            f'format("%s:%v", {t}, {n})',
            f"substr({t}, 0, 3)",
            f'regex_replace({t}, "[^a-z]", "_")',
            f'lookup(MAP, "x", {t})',
            f"coalesce({t}, {t})",
            f"title({t})",
            f'"%{{ for v in {ls} }}[${{v}}]%{{ endfor }}"',
        ]
    )


def _number(rng: random.Random, depth: int) -> str:
    if depth <= 0 or rng.random() < 0.3:
        return rng.choice(["1", "2", "0", "10", "N"])
    a, b = _number(rng, depth - 1), _number(rng, depth - 1)
    return rng.choice(
        [
            f"({a} + {b})",
            f"({a} - {b})",
            f"({a} * {b})",
            f"strlen({_text(rng, depth - 1)})",
            f"length({_list(rng, depth - 1)})",
            f"max({a}, {b})",
            f"({a} % 7)",
        ]
    )


def _truth(rng: random.Random, depth: int) -> str:
    if depth <= 0 or rng.random() < 0.2:
        return rng.choice(["true", "false", "DEBUG", "OFF"])
    sub = depth - 1
    t, u, n, m = _text(rng, sub), _text(rng, sub), _number(rng, sub), _number(rng, sub)
    a, b = _truth(rng, sub), _truth(rng, sub)
    return rng.choice(
        [
            f"({t} == {u})",
            f"notequal({t}, {u})",
            f"({n} < {m})",
            f"({n} >= {m})",
            f"({a} && {b})",
            f"({a} || {b})",
            f"!{a}",
            f"and({a}, {b})",
            f"not({a})",
            f"contains({_list(rng, sub)}, {t})",
        ]
    )


def _list(rng: random.Random, depth: int) -> str:
    if depth <= 0 or rng.random() < 0.2:
        return rng.choice(["LIST", '["a", "b"]', "[TAG, EMPTY]", '[""]'])
    sub = depth - 1
    t, ls, b = _text(rng, sub), _list(rng, sub), _truth(rng, sub)
    return rng.choice(
        [
            f"[{t}, {_text(rng, sub)}]",
            f"concat({ls}, [{t}])",
            f"compact({ls})",
            f"distinct({ls})",
            f'[for v in {ls} : "${{v}}-x"]',
            f'[for v in {ls} : v if v != ""]',
            f"reverselist({ls})",
            f'formatlist("%s/%s", {t}, {ls})',
            f'split(".", {t})',
            f"concat({ls}, {_list(rng, sub)})",
            f"flatten([{ls}, {ls}])",
            f"sort({ls})",
            f"({b} ? {ls} : [{t}])",
        ]
    )


_TYPES = {"s": _text, "n": _number, "b": _truth, "l": _list}
