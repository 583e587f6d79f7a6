"""Which request heads are sent? A browser's, 1.3 KiB of them, with a cookie and a bearer token; some parts may change.

A head is text with marks: {n} a number that never comes twice, {hex} 16 hexadecimal digits that never come twice,
{key} a number below `keys`, {token} one of many tokens. `script` makes wrk fill them in, `template` is for the fill in
C, `filled` does it here.
"""

import itertools
import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

HOST = "portal.example"
_MARK = re.compile(r"\{(n|hex|key|token)\}")
_numbers = itertools.count(1)

_BROWSER = """\
Host: portal.example
Accept: application/json, text/plain, */*
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-GB,en;q=0.9,de;q=0.8
Authorization: Bearer {token}
Cookie: _ga=GA1.2.{ga}.1795687200; session_hint=1; theme=dark; consent=necessary.statistics
DNT: 1
Referer: https://portal.example/jobs?page=2&status=open
Sec-Fetch-Dest: empty
Sec-Fetch-Mode: cors
Sec-Fetch-Site: same-origin
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0
traceparent: 00-4bf92f3577b34da6{trace}-00f067aa0ba902b7-01
X-Request-Id: 7d1c5e9a-{trace}
"""


@dataclass(frozen=True, slots=True)
class Head:
    text: str
    keys: int = 1
    tokens: tuple[str, ...] = ()
    zipf: bool = False  # one of the keys is asked for as often as its rank says (1/rank), instead of all alike

    @property
    def many(self) -> int:
        """How many of these are to be filled."""
        return max(self.keys, len(self.tokens), 1)

    def filled(self, key: int = 0, token: int = 0) -> bytes:
        """One request with this head."""
        values = {"key": str(key), "token": self.tokens[token] if self.tokens else ""}
        return _MARK.sub(lambda mark: values.get(mark[1]) or _unique(mark[1]), self.text).encode()

    @property
    def constant(self) -> bool:
        return _MARK.search(self.text) is None

    def script(self, folder: Path) -> Path:
        """The script for wrk: keys and tokens at random."""
        file = folder / f"head{next(_numbers)}.lua"
        if self.constant:
            file.write_text(f"local head = {_lua(self.text)}\nrequest = function() return head end\n")
            return file
        parts = _MARK.split(self.text)
        expressions = [_lua(part) if at % 2 == 0 else _EXPRESSION[part] for at, part in enumerate(parts)]
        tokens = folder / f"{file.stem}.tokens"
        tokens.write_text("\n".join(self.tokens))
        # the ranks of Zipf's law are strewn over all keys: their neighbours were not stored beside them
        chosen = f"math.floor(most ^ math.random()) * {_STREWN} % most" if self.zipf else "math.random(0, most - 1)"
        file.write_text(
            f"local n, run, most = -1, 0, {self.many}\n"
            "local random = io.open('/dev/urandom', 'rb')\n"  # each run has numbers of its own
            "for _ = 1, 3 do run = run * 256 + random:read(1):byte() end\n"
            f"local keys, tokens = {self.keys}, {{}}\n"
            f"for line in io.lines({json.dumps(str(tokens))}) do tokens[#tokens + 1] = line end\n"
            "math.randomseed(run)\n"
            f"request = function()\n  n = n + 1\n  local pick = {chosen}\n  return {' .. '.join(expressions)}\nend\n"
        )
        return file

    def template(self, folder: Path) -> tuple[Path, Path]:
        """The files for `fill`: this head, and its tokens."""
        number = next(_numbers)
        template, tokens = folder / f"head{number}.template", folder / f"head{number}.tokens"
        template.write_bytes(self.text.encode())
        tokens.write_text("\n".join(self.tokens))
        return template, tokens


_STREWN = 7_654_321  # has no factor in common with a power of ten
_EXPRESSION = {
    "n": '(run .. "0" .. n)',
    "hex": 'string.format("%06x%010x", run, n)',
    "key": "(pick % keys)",
    "token": "tokens[pick % #tokens + 1]",
}


def _unique(mark: str) -> str:
    return str(secrets.randbits(60)) if mark == "n" else secrets.token_hex(8)


def _lua(text: str) -> str:
    return json.dumps(text)  # the same escapes, for ASCII


def head(
    target: str,
    token: str | list[str],
    *,
    distinct: bool = False,
    keys: int = 1,
    zipf: bool = False,
    extra: str = "",
) -> Head:
    """A browser's GET of `target`. Distinct: its cookie, trace and request ids are never those of another request."""
    tokens = tuple(token) if isinstance(token, list) else ()
    lines = _BROWSER.replace("{ga}", "{hex}" if distinct else "1874320094").replace(
        "{trace}", "{hex}" if distinct else "a3ce929d0e0e4736"
    )
    if not tokens:
        assert isinstance(token, str)
        lines = lines.replace("{token}", token)
    text = f"GET {target} HTTP/1.1\n{lines}{extra}\n".replace("\n", "\r\n")
    return Head(text, keys, tokens, zipf)
