"""The labelling interface for reviews: clip, caption and question beside an answer to be accepted, edited or rejected.

The answer stands in the task's data and is put into the text field from there, so that a task needs no prediction, and
an annotation says in `edited_answer` what the field held when it was submitted, whether somebody changed it or not.
"""

from __future__ import annotations

from xml.etree import ElementTree

from pipeline.errors import SetupError
from pipeline.records import Decision

DECISION = "decision"
ANSWER = "edited_answer"
REASON = "reason"
COMMENT = "comment"
RATING = "rating"
CLIP = "clip"
"""Names of the controls and of the video. They are the columns of JSON_MIN and CSV, and so differ from the data's."""

REASONS = (
    "wrong verdict",
    "not seen in the clip",
    "misses the event",
    "wrong class",
    "too vague",
    "bad language",
    "clip of no use",
    "other",
)
"""What a reviewer can choose from for a rejection; more is said in words."""

STARS = 5

INSTRUCTION = (
    "Watch the clip and read the answer. Right as it stands: 'accept'. Right after a change: change the text, then "
    "'edit'. Beyond mending: 'reject', and say why. The stars rate the answer as you found it, 1 (poor) to 5. "
    "'Skip' leaves the answer to somebody else."
)

_STYLE = ".review { display: grid; grid-template-columns: 1fr 1fr; gap: 1.5em } .review > * { min-width: 0 }"


def review_config() -> str:
    """Return the interface's XML."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Style").text = _STYLE
    ElementTree.SubElement(view, "Header", value="$video_id, $span: $label")
    page = ElementTree.SubElement(view, "View", className="review")
    left, right = (ElementTree.SubElement(page, "View") for _ in range(2))
    ElementTree.SubElement(left, "Video", name=CLIP, value=f"${CLIP}", height="400")
    _say(left, "Caption", "caption")
    _say(right, "Question", "question")
    ElementTree.SubElement(right, "Header", value="Answer", size="5")
    _write(right, ANSWER, value="$answer", rows="9", editable="true")
    decisions = ElementTree.SubElement(
        right, "Choices", name=DECISION, toName=CLIP, choice="single-radio", showInline="true", required="true",
        requiredMessage=f"Decide: {', '.join(Decision)}.",
    )  # fmt: skip
    for decision in Decision:
        ElementTree.SubElement(decisions, "Choice", value=decision, hotkey=decision[0])
    why = ElementTree.SubElement(
        right, "View", visibleWhen="choice-selected", whenTagName=DECISION, whenChoiceValue=Decision.REJECT
    )
    reasons = ElementTree.SubElement(
        why, "Choices", name=REASON, toName=CLIP, choice="multiple", showInline="true", required="true",
        requiredMessage="Say why it is rejected.",
    )  # fmt: skip
    for reason in REASONS:
        ElementTree.SubElement(reasons, "Choice", value=reason)
    _write(right, COMMENT, rows="2", placeholder="in your words")
    ElementTree.SubElement(right, "Rating", name=RATING, toName=CLIP, maxRating=str(STARS))
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode")


def is_review_interface(label_config: str) -> bool:
    """Whether an interface asks for decisions about answers: an interface that people have changed still does."""
    try:
        view = ElementTree.fromstring(label_config)  # noqa: S314 - expat resolves no external entities
    except ElementTree.ParseError:
        return False
    decisions = [tag for tag in view.iter("Choices") if tag.get("name") == DECISION]
    offered = {choice.get("alias") or choice.get("value") for tag in decisions for choice in tag.iter("Choice")}
    has_answer = any(tag.get("name") == ANSWER and tag.get("value") == "$answer" for tag in view.iter("TextArea"))
    return has_answer and set(Decision) <= offered


def check_review_interface(label_config: str, where: str) -> None:
    """Refuse a project of another kind; `where` opens the message.

    Raises:
        SetupError: the interface lacks what tells a decision and the answer.
    """
    if not is_review_interface(label_config):
        raise SetupError(
            f"{where}: not a project for reviews: Choices {DECISION} with {', '.join(Decision)}, and a TextArea "
            f'{ANSWER} with value="$answer" expected'
        )


def _say(view: ElementTree.Element, title: str, field: str) -> None:
    ElementTree.SubElement(view, "Header", value=title, size="5")
    ElementTree.SubElement(view, "Text", name=field, value=f"${field}")


def _write(view: ElementTree.Element, name: str, **attributes: str) -> None:
    look = {"name": name, "toName": CLIP, "maxSubmissions": "1", "showSubmitButton": "false"}
    ElementTree.SubElement(view, "TextArea", look | attributes)
