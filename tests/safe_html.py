"""What HTML of ours may hold, and texts that try to put more into it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import strategies as st

TAGS = set(
    "div p br hr h1 h2 h3 h4 h5 h6 strong em s code pre span ul ol li blockquote a table thead tbody tr th td "
    "details summary".split()
)
ATTRIBUTES = {
    "class": re.compile(r"(aichat-reply )?tex2jax_ignore mathjax_ignore|tex2jax_process mathjax_process"),
    "style": re.compile(
        r"(color:#[0-9a-f]{6}(;font-style:italic)?|text-align:(left|right|center);padding:0\.2em 0\.7em"
        r"(;vertical-align:top;(white-space:nowrap|min-width:12em;overflow-wrap:anywhere))?|"
        r"font-size:smaller|margin-left:0|white-space:pre-wrap|"
        r"opacity:0\.7;font-size:smaller|overflow-x:auto;overflow-y:hidden|"
        r"opacity:0\.7;cursor:pointer|font-size:smaller;margin-bottom:0\.7em|"
        r"border-left:2px solid #[0-9a-f]{6};padding-left:0\.8em;opacity:0\.7|"
        r"overflow-x:auto;margin:0\.7em 0;padding:0\.6em 0\.8em;word-break:normal;"
        r"background-color:rgba\(128, 128, 128, 0\.1\)|"
        r"background-color:rgba\(0, 0, 0, 0\);white-space:pre(-wrap)?)"
    ),
    "dir": re.compile("auto|ltr"),
    "href": re.compile(r"(https?://|mailto:)[^\s\"<>]+", re.IGNORECASE),
    "target": re.compile("_blank"),
    "rel": re.compile("noopener noreferrer nofollow"),
    "start": re.compile(r"\d+"),
    "open": re.compile(""),
}
VOID = {"br", "hr"}


class Checked(HTMLParser):
    """Parses as a browser would and refuses whatever is not of ours."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.formulas: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in ATTRIBUTES, (tag, name, value)
            assert ATTRIBUTES[name].fullmatch(value or ""), (tag, name, value)
        assert len({name for name, _ in attrs}) == len(attrs)
        values = {name: value or "" for name, value in attrs}
        self.seen.append((tag, values))
        if values.get("class") == "tex2jax_process mathjax_process":
            self.formulas.append("")
        if tag not in VOID:
            self.open.append(tag if "process" not in values.get("class", "") else f"{tag} formula")

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop().split()[0] == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1].endswith("formula"):
            self.formulas[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"comment {data!r}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"declaration {decl!r}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"declaration {data!r}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"instruction {data!r}")


# Characters that no terminal may get.
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<ScRiPt\n>alert(1)</sCript\n>",
    "<iframe src='https://example.org'></iframe>",
    "<form action=/x><input name=a><button formaction=/y>go</button></form>",
    "<svg onload=alert(1)><use href='data:x'/></svg>",
    "<style>body{background:url(https://example.org/x)}</style>",
    "<p style=\"background:url('https://example.org/x')\">x</p>",
    '<button data-commandlinker-command="console:create" data-commandlinker-args="{}">x</button>',
    "<!-- --><![CDATA[x]]><?xml x?><!DOCTYPE x>",
    "```html\n<script>alert(1)</script>\n```",
    '```py" onmouseover="alert(1)\nx\n```',
    '```"><script>alert(1)</script>\nx\n```',
    "~~~ <svg/onload=alert(1)>\n~~~",
    "`<script>`",
    '[x](https://example.org/"onmouseover="alert(1))',
    '[x](<https://example.org/" onclick="alert(1)> "title\\" onclick=alert(1)")',
    "<https://example.org/\"onclick='x'>",
    '![" onerror="alert(1)](https://example.org/x.png " onerror=alert(1)")',
    "| <img src=x> | b |\n|:-|-:|\n| <script> | `<b>` |",
    "# <img src=x>\n\n> <script>\n\n- <svg>\n\n1) <a href=x>",
    "$</span><script>alert(1)</script>$",
    "$$\n</div><img src=x onerror=alert(1)>\n$$",
    '```math\n<img src=x onerror="alert(1)">\n```',
    "&lt;script&gt; &#60;script&#62; &#x3c;img src=x&#x3e;",
    "[a]: javascript:alert(1)\n\n[a] [a][a]",
    '<a href="javascript:alert(1)">x</a>',
]


MARKDOWN = st.lists(
    st.one_of(
        st.sampled_from(
            [*HOSTILE, *"[]()<>*_`~$\\#|-+=!&;:\"'", "\n", "\n\n", "    ", "> ", "- ", "1. ", "```", "$$", "\\(", "\\]"]
        ),
        st.sampled_from(
            ["javascript:", "data:", "https://a.b/", "\\href{", "\\begin{align}", "\\end{align}", "python", "math"]
        ),
        st.text(max_size=8),
    ),
    max_size=30,
).map("".join)
