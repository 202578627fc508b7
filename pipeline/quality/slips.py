"""Slips of a model that show in the text alone: broken characters, control tokens, another language, and so on.

Each function returns what is wrong, quoted, or None. Only positive evidence counts: a terse or odd answer stays.
"""

from __future__ import annotations

import re
import unicodedata

_LINE_BREAKS = "\n\r\t"
_JOINERS = "\u200c\u200d"
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_REPLACEMENT = "\ufffd"
# UTF-8 read as Latin-1 or Windows-1252: a lead byte as a letter, the next byte as a sign that follows no such letter.
_MOJIBAKE = re.compile(
    "[\u00c2\u00c3][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u0192\u2013-\u203a\u20ac\u2122]"
    "|\u00e2\u20ac[\u0080-\u00bf\u0152\u0153\u0160\u0161\u02dc\u2013-\u203a\u2122]|\u00ef\u00bb\u00bf"
)

# Whatever looks like a tag, since every model family has its own: <image>, </s>, <|im_start|>, <0x0A>, <<SYS>>,
# DeepSeek's with full-width bars, and the bracketed ones of Mistral. "Speed < 5" has a space, "a<b" no end.
_CONTROL_TOKEN = re.compile(
    r"</?[|\uff5c]?(?:[^\W\d]|0x)[\w.:\u2581-]{0,40}[|\uff5c]?\s?/?>|<[|\uff5c][^<>\n]{1,60}[|\uff5c]>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_(?:CALLS|RESULTS|CONTENT)|THINK|IMG(?:_(?:BREAK|END))?|AUDIO"
    r"|BOS|EOS|PAD|UNK|CLS|SEP|MASK)\]",
)

_SPOKEN = re.compile(
    r"\b(?:say|shout|yell|cry|crie|scream|read|ask|announce|repeat|call)(?:s|ing|ed|d)?(?: that| out)?\s*$"
)
_FIRST_PERSON = re.compile(
    r"(?<![\w-])I(?:'(?:m|ve|d|ll))? (?:also |clearly |only |would |can |could |do not |don't |did not |am |have )*"
    r"(?:see|observe|notice|think|believe|conclude|find|judge|say|note|assume|infer|know|guess|describe|suspect"
    r"|(?:not |un)?(?:sure|certain|able)|confident|noticed|observed|watched|seen|would|cannot|can't)\b"
    r"|\b[Ww]e (?:also |clearly |then |can |could |may |will )*"
    r"(?:observe|notice|conclude|find|assume|infer|are shown|are looking)\b"
    r"|\b(?:[Mm]y|[Oo]ur) (?:\w+ )?"
    r"(?:opinion|view|judge?ment|analysis|answer|assessment|observations?|understanding|conclusion|description)\b"
    r"|\b(?:[Ll]et me|[Aa]llow me|(?:tell|show|give|lead|help)(?:s|ing)? (?:me|us)|seems to me)\b"
)

# What every match of it holds, faster to look for.
_WRITERS = ("I ", "I'", "We ", "we ", "My ", "my ", "Our ", "our ", " me", " us")

_DIGIT = re.compile(r"\d")
_CLOCK = re.compile(
    r"\b\d{1,2}:\d{2}(?::\d{2})?\b(?:\s*[ap]\.?m\b)?|\b\d{1,2}\s*(?:[ap]\.?m\b|o'clock\b)", re.IGNORECASE
)
_SPAN = re.compile(
    r"(?P<value>\d+(?:\.\d+)?)[\s-]*(?P<unit>seconds?|secs?|minutes?|mins?|hours?)\b"
    r"|(?:\b(?:at|from|to|until|till)\s|[~\[])\s*(?P<short>\d+(?:\.\d+)?)\s?s\b"
    r"|\bseconds? (?P<after>\d+(?:\.\d+)?)\b",
    re.IGNORECASE,
)
_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_ROUNDING_S = 1.0
"""A time may be rounded up by this much, and a clip is never timed closer."""

_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = frozenset(
    _WORD.findall(
        "the of and to is are was it its this that with by at from for as be has have they their them he she his her "
        "who which then while into out up down there no not one two people"
    )
)
# Function words of languages that models slip into, without those that English has as well.
_OTHER = frozenset(
    _WORD.findall(
        "der das und ist nicht ein eine einen einem mit auf f\u00fcr sich von zu dem den im "
        "le la les des une est dans pas et du au qui sur avec pour que un il elle "
        "el los las una y en por con del se lo su es al "
        "o os um uma n\u00e3o do da dos das na no com para em ao "
        "il lo gli di che non per sono della nel "
        "het een van niet op zijn dat met voor"
    )
) - {"no", "do", "die", "des", "met", "op", "per", "it"}
_MIN_OTHER_WORDS = 3
_FOREIGN_SCRIPT_SHARE = 0.2


def find_broken_text(text: str) -> str | None:
    """Find a character that no person wrote: control and private ones, U+FFFD, stray surrogates, mojibake."""
    if text.isascii() and text.isprintable():
        return None
    for place, character in enumerate(text):
        unseen = unicodedata.category(character) in _UNSEEN and character not in _LINE_BREAKS + _JOINERS
        if unseen or character == _REPLACEMENT:
            # a stray surrogate could not be stored in the detail either
            return f"U+{ord(character):04X} at character {place}"
    if match := _MOJIBAKE.search(text):
        return f"{match.group()!r} at character {match.start()} is UTF-8 read as another encoding"
    return None


def find_control_token(text: str) -> str | None:
    """Find what a trainer or tokenizer reads as a medium or a turn, not as text: `<image>`, `</s>`, `[INST]`."""
    match = _CONTROL_TOKEN.search(text) if "<" in text or "[" in text else None
    return match and f"{match.group()!r} at character {match.start()}"


def find_other_language(text: str) -> str | None:
    """Find that a text is not English: letters of another script, or more function words of another language."""
    if not text.isascii():
        letters = [c for c in text if c.isalpha()]
        foreign = sum(not unicodedata.name(c, "").startswith("LATIN") for c in letters)
        if foreign > _FOREIGN_SCRIPT_SHARE * len(letters):
            return f"{foreign} of {len(letters)} letters are not Latin"
    words = [word.casefold() for word in _WORD.findall(text)]
    other = [word for word in words if word in _OTHER]
    english = sum(word in _ENGLISH for word in words) if len(other) >= _MIN_OTHER_WORDS else 0
    if len(other) >= _MIN_OTHER_WORDS and len(other) > english:
        return f"words such as {', '.join(sorted(set(other))[:5])}; {english} function words are English"
    return None


def find_first_person(text: str) -> str | None:
    """Find the one who writes in the text; neither what people in the video say nor the "we see" of a narrator."""
    if not any(word in text for word in _WRITERS):
        return None
    for match in _FIRST_PERSON.finditer(text):
        if not _SPOKEN.search(text[: match.start()]):
            return match.group()
    return None


def find_invented_time(text: str, caption: str, clip_s: float | None) -> str | None:
    """Find a clock time, or a span of seconds beyond the `clip_s` of the clip, that the caption does not give."""
    if not _DIGIT.search(text):
        return None
    for match in _CLOCK.finditer(text):
        if match.group().casefold() not in caption.casefold():
            return f"the time {match.group()!r} is not of the caption"
    for match in _SPAN.finditer(text):
        number = match["value"] or match["short"] or match["after"]
        seconds = float(number) * _UNIT_S[(match["unit"] or "s")[0].lower()]
        is_beyond = clip_s is not None and seconds > clip_s + _ROUNDING_S
        if is_beyond and not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", caption):
            return f"{match.group().strip()!r} lies beyond the {clip_s:.1f} s of the clip"
    return None
