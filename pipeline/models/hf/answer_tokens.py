"""Which tokens an answer is made of, as the chat template of a model writes it."""

from __future__ import annotations

from typing import Any

from pipeline.errors import SetupError

Turns = list[dict[str, Any]]


class AnswerTokens:
    """Finds an answer's tokens by rendering a conversation twice: with the answer, and as a prompt for it."""

    def __init__(self, processor: Any, title: str) -> None:
        self._processor = processor
        self._tokenizer = processor.tokenizer
        self._title = title
        self.specials = tuple(token for token in self._tokenizer.all_special_tokens if token)

    def of(self, turns: Turns, answer: str) -> tuple[list[int], int]:
        """Return the tokens that a model has to generate after the prompt `turns`, and the one that ends them.

        Raises:
            SetupError: the chat template does not render an answer as a continuation of its prompt.
        """
        answered = [*turns, {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
        prompt = self._rendered(turns, add_generation_prompt=True)
        whole = self._rendered(answered, add_generation_prompt=False)
        if not whole.startswith(prompt) or answer.strip() not in whole[len(prompt) :]:
            raise SetupError(
                f"{self._title}: its chat template does not continue a prompt by the answer, so that no loss can be "
                "put on answers alone"
            )
        text, end = self._up_to_its_end(whole[len(prompt) :])
        before, together = self._tokens(prompt), self._tokens(prompt + text)
        # A tokenizer may join the prompt's last space with the answer's first word; at inference the prompt is given.
        follows = together[: len(before)] == before
        return together[len(before) :] if follows else self._tokens(text), end

    def beginnings(self, word: str) -> set[int]:
        """Return tokens that `word` begins with, small or large, behind a space or not, whatever template there is."""
        found = set()
        for variant in (word, word.lower(), word.upper()):
            for text in (variant, f" {variant}"):
                first = self._tokens(text)[0]
                part = self._tokenizer.decode([first]).strip()
                if part and variant.startswith(part):
                    found.add(first)
        return found

    def _up_to_its_end(self, text: str) -> tuple[str, int]:
        """Split off the token that ends a turn; where the template writes none, it is that which ends a text."""
        places = {text.index(token): token for token in self.specials if token in text}
        if not places:
            return text.rstrip(), self._tokenizer.eos_token_id
        return text[: min(places)], self._tokenizer.convert_tokens_to_ids(places[min(places)])

    def _rendered(self, turns: Turns, *, add_generation_prompt: bool) -> str:
        text: str = self._processor.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens
