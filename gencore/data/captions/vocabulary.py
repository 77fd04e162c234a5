"""Words as numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gencore.sizes import check_positive

__all__ = ["Vocabulary"]


class Vocabulary:
    """The words of captions, the end of a caption and a place for words that are not known.

    A caption is a string of words with spaces between them. As numbers it ends with `STOP`, which
    also fills what is left of its row.

    Args:
        words: different ones, in the order of their numbers, which begin at 2.

    Attributes:
        STOP: number of the end of a caption, 0.
        UNKNOWN: number of every word that is not in the vocabulary, 1.

    Raises:
        ValueError: a word occurs twice, is empty or has a space in it.

    Source:
        Lucas, "Deep generative models: over-generalisation and mode-dropping", 2020, §B.4.1, with
        the tokens STOP and OUT-OF-VOCABULARY.

    Example:
        >>> vocabulary = Vocabulary.of(["a red disc", "a blue disc", "a disc"], min_count=2)
        >>> len(vocabulary)
        4
        >>> vocabulary.encode(["a disc", "a red disc"])
        tensor([[2, 3, 0, 0],
                [2, 1, 3, 0]])
        >>> vocabulary.decode(vocabulary.encode(["a red disc"]))
        ['a <unknown> disc']
    """

    STOP = 0
    UNKNOWN = 1

    def __init__(self, words: Sequence[str]) -> None:
        self.words = ("<stop>", "<unknown>", *words)
        self._numbers = {word: number for number, word in enumerate(self.words)}
        if len(self._numbers) < len(self.words) or any(word.split() != [word] for word in words):
            raise ValueError(
                f"Vocabulary: words is {list(words)}; expected different words without spaces"
            )

    @classmethod
    def of(cls, captions: Iterable[str], *, min_count: int = 1) -> "Vocabulary":
        """The words that occur at least `min_count` times, the most frequent first and those that
        are as frequent in the order of the alphabet."""
        check_positive("Vocabulary.of", min_count=min_count)
        counts = Counter(word for caption in captions for word in caption.split())
        frequent = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        """The number of words, with the end and the unknown one."""
        return len(self.words)

    def encode(self, captions: Sequence[str]) -> Tensor:
        """The numbers of the captions' words, int64 [N, T], where T is the longest caption's number
        of words and 1."""
        rows = [
            [self._numbers.get(word, self.UNKNOWN) for word in text.split()] for text in captions
        ]
        length = 1 + max((len(row) for row in rows), default=0)
        padded = [row + [self.STOP] * (length - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64).view(len(rows), length)

    def decode(self, numbers: Tensor) -> list[str]:
        """The captions of numbers [N, T], each until its first `STOP`.

        Raises:
            ValueError: they are not [N, T], or not those of words.
        """
        if numbers.ndim != 2 or ((numbers < 0) | (numbers >= len(self))).any():
            raise ValueError(
                f"Vocabulary.decode: expected [N, T] numbers from 0 to {len(self) - 1}, got "
                f"shape {list(numbers.shape)}"
            )
        captions = []
        for row in numbers.tolist():
            end = row.index(self.STOP) if self.STOP in row else len(row)
            captions.append(" ".join(self.words[number] for number in row[:end]))
        return captions
