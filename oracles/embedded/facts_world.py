"""A small world of people, workplaces and cities, told in plain English.

Each story is a handful of one-line facts among filler sentences, and a question
whose answer takes one, two or three of the facts together:

    The best friend of Ana is Maria. Maria works at the bakery. Rain fell on the
    hills that week. The bakery is in Oslo. Question: In which city does Maria
    work? Answer: Oslo

Who works where is drawn afresh for every story, so nothing can be known beforehand,
and which sentences are needed is known exactly: without one of them the answer to
the question is the word "unknown". The embedded model `facts` is trained on these
stories; tests and benchmarks use them as prompts with known interactions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNKNOWN = "unknown"
"""The answer when a fact that the question needs is missing."""


def _words(text: str, separator: str = " ") -> tuple[str, ...]:
    """Return the parts of a list written as one string."""
    return tuple(text.split(separator))


NAMES = _words(
    "Ana Ben Carl Dora Emma Felix Gina Hugo Iris Jack Kate Leo Maria Nora Omar "
    "Paul Rosa Sam Tom Vera Will Zoe Alice Bruno Clara David Elena Frank Grace "
    "Henry Ivan Julia Karl Laura Mark Nina Oscar Peter Ruth Simon Tina Victor "
    "Adam Bella Eric Lucy Max Olga"
)
PLACES = _words(
    "bakery school library museum hospital bank hotel factory theatre market "
    "farm garage bookshop harbour airport station zoo mill brewery gym pharmacy "
    "cinema gallery castle church court studio embassy laundry shipyard"
)
CITIES = _words(
    "Oslo Lima Rome Paris Cairo Tokyo Delhi Berlin Madrid Vienna Prague Dublin "
    "Lisbon Athens Boston Chicago Denver Seattle Geneva Milan Naples Hamburg "
    "Munich Krakow Riga Tunis Accra Lagos Nairobi Havana Quito Bogota"
)

_SENTENCES = {
    "friend": ("The best friend of {} is {}.", "{} has a friend called {}."),
    "work": ("{} works at the {}.", "{} has a job at the {}."),
    "city": ("The {} is in {}.", "The {} stands in {}."),
}
_QUESTIONS = {
    ("friend",): "Who is the best friend of {}?",
    ("work",): "Where does {} work?",
    ("city",): "In which city is the {}?",
    ("friend", "work"): "Where does the best friend of {} work?",
    ("work", "city"): "In which city does {} work?",
    ("friend", "work", "city"): "In which city does the best friend of {} work?",
}

_EVENTS = _words(
    "The weather was mild|Rain fell on the hills|A dog slept near the door|"
    "The train was late again|Children played in the park|The river ran high|"
    "A new road was opened|The newspaper had little to say|Snow covered the roofs|"
    "The old clock stopped|Birds sang in the trees|The price of bread went up|"
    "A football match was played|The lights went out|Somebody painted the fence|"
    "A letter came in the post|The garden was full of roses|The wind was strong|"
    "Many visitors came by bus|The radio played slow music|A cat sat on the wall|"
    "The soup was too hot|Two boats left early|The moon was bright|"
    "Nobody heard the bell|A long meeting was held|The grass was wet",
    "|",
)
_TIMES = _words(
    "that spring|in the morning|last week|all day|before dinner|on Monday|"
    "for a while|as usual|that year|in the evening|after lunch|once more",
    "|",
)


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One statement of the world, such as (work, Maria, bakery)."""

    relation: str
    subject: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """A chain of relations to follow from a subject; its length is its hops."""

    subject: str
    relations: tuple[str, ...]

    @property
    def text(self) -> str:
        """The question in words, such as "In which city does Maria work?"."""
        return _QUESTIONS[self.relations].format(self.subject)


@dataclass(frozen=True, kw_only=True)
class Story:
    """A document with one question, and the truth about it.

    Attributes:
        sentences: the document, in order.
        question: the question alone, without "Question:" and "Answer:".
        answer: the right answer, one word.
        wrong_answers: words of the same kind that occur in the document.
        supporting_sentences: indices into `sentences` of the facts the answer
            needs, in the order in which the chain is followed.
    """

    sentences: tuple[str, ...]
    question: str
    answer: str
    wrong_answers: tuple[str, ...]
    supporting_sentences: tuple[int, ...]

    @property
    def prompt(self) -> str:
        """The whole text to be continued with a space and the answer."""
        return prompt_of(self.sentences, self.question)


def prompt_of(sentences: Sequence[str], question: str) -> str:
    """Return the sentences, then the question, in the form the model knows."""
    return " ".join((*sentences, f"Question: {question} Answer:"))


def draw_chains(
    rng: np.random.Generator, relations: Sequence[str], num_chains: int
) -> list[list[Fact]]:
    """Return chains of facts over `relations`, no word shared between chains."""
    num_names = num_chains * (2 if "friend" in relations else 1)
    pools = {
        "friend": list(rng.permutation(NAMES)[:num_names]),
        "work": list(rng.permutation(PLACES)[:num_chains]),
        "city": list(rng.permutation(CITIES)[:num_chains]),
    }
    chains = []
    for _ in range(num_chains):
        subject = str(pools["work" if relations[0] == "city" else "friend"].pop())
        chain = []
        for relation in relations:
            value = str(pools[relation].pop())
            chain.append(Fact(relation=relation, subject=subject, value=value))
            subject = value
        chains.append(chain)
    return chains


def write_fact(rng: np.random.Generator, fact: Fact) -> str:
    """Return the fact as a sentence, in one of two wordings."""
    wordings = _SENTENCES[fact.relation]
    return wordings[rng.integers(len(wordings))].format(fact.subject, fact.value)


def write_filler(rng: np.random.Generator) -> str:
    """Return a sentence about nothing that is ever asked."""
    event, time = rng.integers(len(_EVENTS)), rng.integers(len(_TIMES))
    return f"{_EVENTS[event]} {_TIMES[time]}."


def follow(facts: Sequence[Fact], question: Question) -> tuple[str, ...]:
    """Return the word reached after each hop; `UNKNOWN` from a missing fact on."""
    known = {(fact.relation, fact.subject): fact.value for fact in facts}
    trail: list[str] = []
    subject = question.subject
    for relation in question.relations:
        subject = known.get((relation, subject), UNKNOWN)
        trail.append(subject)
    return tuple(trail)


def generate(
    rng: np.random.Generator, num_facts: int, num_fillers: int, hops: int
) -> Story:
    """Return a random story whose question needs exactly `hops` of its facts.

    The other facts make equal chains about other people and places; the last of
    these chains is cut short if `num_facts` is no multiple of its length.

    >>> story = generate(np.random.default_rng(0), num_facts=4, num_fillers=2, hops=2)
    >>> len(story.sentences), len(story.supporting_sentences)
    (6, 2)

    Raises:
        ValueError: `hops` is not 1, 2 or 3, or `num_facts` leaves no second
            candidate answer or needs more words than the world has.
    """
    if hops not in (1, 2, 3):
        raise ValueError(f"hops={hops}; the questions take 1, 2 or 3 hops.")
    relations = _draw_relations(rng, hops)
    num_chains = -(-num_facts // len(relations))
    limit = len(NAMES) // 2 if "friend" in relations else len(PLACES)
    if num_facts < 2 * len(relations) or num_chains > limit:
        raise ValueError(
            f"num_facts={num_facts}; stories of {hops} hops take from "
            f"{2 * len(relations)} to {limit * len(relations)} facts."
        )
    chains = draw_chains(rng, relations, num_chains)
    facts = [fact for chain in chains for fact in chain][:num_facts]
    start = int(rng.integers(len(relations) - hops + 1))
    needed = chains[0][start : start + hops]
    return _tell(rng, facts, needed, num_fillers)


def _draw_relations(rng: np.random.Generator, hops: int) -> tuple[str, ...]:
    """Return the relations of a story's chains: at least two, for variety."""
    if hops == 3:
        return ("friend", "work", "city")
    return (("work", "city"), ("friend", "work"))[rng.integers(2)]


def _tell(
    rng: np.random.Generator,
    facts: Sequence[Fact],
    needed: Sequence[Fact],
    num_fillers: int,
) -> Story:
    """Return the facts and fillers shuffled into a story that asks for `needed`."""
    lines = [write_fact(rng, fact) for fact in facts]
    lines += [write_filler(rng) for _ in range(num_fillers)]
    order = [int(i) for i in rng.permutation(len(lines))]
    question = Question(
        subject=needed[0].subject,
        relations=tuple(fact.relation for fact in needed),
    )
    last = needed[-1]
    return Story(
        sentences=tuple(lines[i] for i in order),
        question=question.text,
        answer=last.value,
        wrong_answers=tuple(
            fact.value
            for fact in facts
            if fact.relation == last.relation and fact != last
        ),
        supporting_sentences=tuple(order.index(facts.index(f)) for f in needed),
    )
