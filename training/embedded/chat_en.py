# ruff: noqa: E501  (tables and templates read better whole)
"""English conversations: questions about a story just told, everyday questions, small talk, requests for a story."""

from __future__ import annotations

import random
from collections.abc import Callable

from training.embedded import facts_en as facts
from training.embedded.grammar import Filler
from training.embedded.stories_en import person, polish, story
from training.embedded.tales_en import BEASTS, tale
from training.embedded.words_en import ACTS, PLACES, TABLES, WEATHER

Turn = tuple[str, str]
"""A question and its answer."""

SYSTEM = [
    "You are a friendly assistant.",
    "You are a helpful assistant.",
    "Please answer in simple English.",
    "You are an assistant who tells stories.",
    "Answer the question of the user.",
    "Your name is Lepton, and you like to help.",
    "Keep your answers short.",
]


def _pick(rng: random.Random, *options: str) -> str:
    return rng.choice(options)


def told(rng: random.Random) -> list[Turn]:
    """A few sentences with their facts, and one or two questions about them."""
    filler = Filler(rng, TABLES)
    who, friend = person(rng, 0.25), person(rng, 0.4)
    while who.name == friend.name:
        friend = person(rng, 0.4)
    place = rng.choice(PLACES)
    act = rng.choice([act for tag in place["tags"].split() for act in ACTS.get(tag, [])])
    weather = rng.choice(WEATHER)["text"]
    ride, bought = filler.fill("{ride}"), filler.fill("{buy}")
    day = filler.fill("{day}").replace("my birthday", f"{who.possessive} birthday")
    feeling, food = filler.fill("{happy}"), filler.fill("{dish}")
    name, he, other, where = who.name, who.subject, friend.name, place["text"]
    lines = [_pick(rng, f"{day}, {name} went to {where}.", f"{name} went to {where} {day}.")]
    questions: list[Turn] = [
        (_pick(rng, f"Where did {name} go?", f"Which place did {name} visit?"), f"{name} went to {where}."),
        (_pick(rng, f"Who went to {where}?", "Who is the story about?"), f"{name} went to {where}."),
        (_pick(rng, f"When did {name} go to {where}?", "When did it happen?"), f"{name} went to {where} {day}."),
    ]
    extra: list[tuple[str, Turn]] = [
        (
            _pick(rng, f"{he} went there with {other}.", f"{other} came along.", f"{other} went there too."),
            (_pick(rng, f"Who went with {name}?", f"With whom did {name} go?"), f"{name} went there with {other}."),
        ),
        (f"{weather}.", (_pick(rng, "How was the weather?", "What was the weather like?"), f"{weather}.")),
        (
            _pick(rng, f"{he} {act['past']}.", f"{he} {act['past']} there."),
            (
                _pick(rng, f"What did {name} do there?", f"What did {name} do {place['loc']}?"),
                f"{name} {act['past']} there.",
            ),
        ),
        (
            f"{he} went there {ride}.",
            (_pick(rng, f"How did {name} go there?", f"How did {name} get there?"), f"{name} went there {ride}."),
        ),
        (
            _pick(rng, f"{he} bought {bought}.", f"On the way home, {he} bought {bought}."),
            (_pick(rng, f"What did {name} buy?", f"What did {he} buy?"), f"{he} bought {bought}."),
        ),
        (
            f"{he} felt {feeling}.",
            (_pick(rng, f"How did {name} feel?", f"How did {he} feel?"), f"{he} felt {feeling}."),
        ),
        (f"In the evening, {he} ate {food}.", (f"What did {name} eat in the evening?", f"{he} ate {food}.")),
    ]
    for line, question in rng.sample(extra, rng.choice([1, 2, 2, 3])):
        lines.append(line)
        questions.append(question)
    text = " ".join(lines)
    asked = rng.sample(questions, rng.choice([1, 1, 2, 3]))
    first = _pick(
        rng, f"{text} {asked[0][0]}", f"Please listen. {text} {asked[0][0]}", f"{text} I have a question. {asked[0][0]}"
    )
    return [(first, asked[0][1]), *asked[1:]]


def animal(rng: random.Random) -> list[Turn]:
    """Where an animal lives, what it eats, what it is like."""
    name, plural, home, food, like = rng.choice(facts.ANIMALS)
    turns = [
        (_pick(rng, f"Where do {plural} live?", f"Where does a {name} live?"), f"{plural} live {home}."),
        (_pick(rng, f"What do {plural} eat?", f"What does a {name} like to eat?"), f"{plural} eat {food}."),
        (
            _pick(rng, f"What are {plural} like?", f"Tell me something about {plural}.", f"What is a {name}?"),
            _pick(
                rng,
                f"{plural} {like}.",
                f"{plural} live {home}. They {like}.",
                f"A {name} is an animal. {plural} {like}.",
            ),
        ),
    ]
    return rng.sample(turns, rng.choice([1, 1, 2]))


def thing(rng: random.Random) -> list[Turn]:
    """What a thing is for and where one buys it."""
    name, use, shop = rng.choice(facts.THINGS)
    return [
        rng.choice(
            [
                (
                    _pick(rng, f"What is {name} for?", f"What can I do with {name}?", f"Why do people need {name}?"),
                    f"You can use {name} to {use}.",
                ),
                (
                    _pick(rng, f"Where can I buy {name}?", f"I want to buy {name}. Where should I go?"),
                    f"You can buy {name} at {shop}.",
                ),
                (f"Do I need {name}?", f"You need {name} if you want to {use}."),
            ]
        )
    ]


def job(rng: random.Random) -> list[Turn]:
    """What someone does for a living and where."""
    name, where, does = rng.choice(facts.JOBS)
    return rng.sample(
        [
            (_pick(rng, f"What does {name} do?", f"What is the work of {name}?"), f"{name} {does}."),
            (f"Where does {name} work?", f"{name} works {where}."),
            (f"I want to be {name} one day.", f"That is great! {name} {does}, so you should study hard."),
        ],
        rng.choice([1, 1, 2]),
    )


def food(rng: random.Random) -> list[Turn]:
    """How something tastes, when it is eaten, what to eat today."""
    name, be, taste, when = rng.choice(facts.FOODS)
    filler = Filler(rng, TABLES)
    does = "do" if be == "are" else "does"
    return [
        rng.choice(
            [
                (f"How {does} {name} taste?", f"{name} {be} {taste}."),
                (f"When do people eat {name}?", f"People like to eat {name} {when}."),
                (
                    _pick(
                        rng, "What should I eat tonight?", "What should I have for lunch?", "I do not know what to eat."
                    ),
                    filler.one(
                        [
                            "You could eat {dish1} and drink some {drink1}.",
                            "I think that {dish1} would be good.",
                            "How about {dish1}? After that, you could have {snack1}.",
                        ]
                    ),
                ),
                (
                    _pick(rng, "What do you like to eat?", "What is your favorite food?"),
                    filler.one(
                        [
                            "I do not eat, but many people like {dish1}.",
                            "I cannot eat, but I like stories about {snack1}.",
                        ]
                    ),
                ),
            ]
        )
    ]


def feeling(rng: random.Random) -> list[Turn]:
    """Someone says how they feel and gets advice."""
    name, advice = rng.choice(facts.ADVICE)
    question = _pick(
        rng,
        f"I am {name}. What should I do?",
        f"I feel {name} today.",
        f"What can I do when I am {name}?",
        f"I am a little {name}.",
    )
    return [
        (
            question,
            _pick(
                rng,
                f"You could {advice}.",
                f"Don't worry. You could {advice}.",
                f"When you are {name}, you should {advice}.",
            ),
        )
    ]


def weather(rng: random.Random) -> list[Turn]:
    """What to wear and do in some weather; what a season is like."""
    name, wear, plan = rng.choice(facts.WEATHER)
    season, like, fun = rng.choice(facts.SEASONS)
    return [
        rng.choice(
            [
                (
                    _pick(
                        rng,
                        f"What should I wear when {name}?",
                        f"I want to go out, but {name}.",
                        f"What should I do when {name}?",
                    ),
                    f"When {name}, you should {wear}.",
                ),
                (
                    _pick(rng, f"What can we do when {name}?", f"What is fun when {name}?"),
                    f"When {name}, you can {plan}.",
                ),
                (_pick(rng, f"What is the weather like in {season}?", f"How is {season}?"), f"In {season}, {like}."),
                (
                    _pick(rng, f"What do people do in {season}?", f"What can I do in {season}?"),
                    f"In {season}, people {fun}.",
                ),
                (
                    _pick(rng, "What is your favorite season?", "Which season do you like?"),
                    f"I like {season} because {like}.",
                ),
                (
                    _pick(rng, "What is the weather like today?", "How is the weather?"),
                    _pick(
                        rng,
                        f"I cannot see outside, but when {name}, you should {wear}.",
                        "I am sorry, I cannot look out of the window.",
                    ),
                ),
            ]
        )
    ]


def place(rng: random.Random) -> list[Turn]:
    """What people do at a place; where to go in order to do something."""
    where = rng.choice(PLACES)
    acts = [act["text"] for tag in where["tags"].split() for act in ACTS.get(tag, [])]
    one, two = rng.sample(acts, 2)
    loc, name = where["loc"], where["text"]
    any_loc = loc if loc.endswith("s") or "town" in loc else loc.replace(" the ", " a ")
    return [
        rng.choice(
            [
                (
                    _pick(
                        rng,
                        f"What do people do {loc}?",
                        f"What do people do {any_loc}?",
                        f"What can I do {loc}?",
                        f"I am going to {name}. What can I do there?",
                    ),
                    _pick(rng, f"{loc}, you can {one} or {two}.", f"People {one} and {two} {loc}."),
                ),
                (_pick(rng, f"Where can I {one}?", f"I want to {one}. Where should I go?"), f"You can {one} {loc}."),
                (
                    _pick(
                        rng,
                        "Where should I go this weekend?",
                        "Where can we go tomorrow?",
                        "I have nothing to do today.",
                    ),
                    _pick(
                        rng,
                        f"You could go to {name} and {one}.",
                        f"How about {name}? You can {one} there, and you can also {two}.",
                    ),
                ),
            ]
        )
    ]


def small(rng: random.Random) -> list[Turn]:
    """Opposites, colors, weekdays and sums up to ten."""
    left, right = rng.choice(facts.OPPOSITES)
    if left != "long" and rng.random() < 0.5:
        left, right = right, left
    what, be, color = rng.choice(facts.COLORS)
    day = rng.randrange(7)
    total = rng.randint(2, 10)
    part = rng.randint(1, total - 1)
    number = facts.NUMBERS
    return [
        rng.choice(
            [
                (
                    _pick(rng, f'What is the opposite of "{left}"?', f'Which word is the opposite of "{left}"?'),
                    f'The opposite of "{left}" is "{right}".',
                ),
                (f"What color {be} {what}?", f"{what} {be} {color}."),
                (
                    f"Which day comes after {facts.WEEK[day]}?",
                    f"{facts.WEEK[(day + 1) % 7]} comes after {facts.WEEK[day]}.",
                ),
                (
                    f"What is {number[part]} plus {number[total - part]}?",
                    f"{number[part]} plus {number[total - part]} is {number[total]}.",
                ),
                (
                    f"What is {number[total]} minus {number[part]}?",
                    f"{number[total]} minus {number[part]} is {number[total - part]}.",
                ),
                ("Which seasons are there?", "There are four seasons: spring, summer, autumn and winter."),
            ]
        )
    ]


def about_me(rng: random.Random) -> list[Turn]:
    """Greetings, thanks, and who is speaking."""
    filler = Filler(rng, {**TABLES, "animal": [row[1] for row in facts.ANIMALS]})
    return [
        rng.choice(
            [
                (
                    _pick(rng, "Hello!", "Hello", "Hi!", "Hi there!", "Good morning!", "Good evening!"),
                    _pick(
                        rng, "Hello! It is nice to meet you.", "Hello! How can I help you?", "Hi! How are you today?"
                    ),
                ),
                (
                    _pick(rng, "What is your name?", "Who are you?", "Tell me about yourself."),
                    _pick(
                        rng,
                        "My name is Lepton. I am a small language model.",
                        "I am Lepton. I can tell short stories and answer simple questions.",
                    ),
                ),
                (
                    _pick(rng, "What can you do?", "How can you help me?"),
                    _pick(
                        rng,
                        "I can tell short stories and answer simple questions.",
                        "I can talk with you, tell you a story and answer questions about it.",
                    ),
                ),
                (
                    _pick(rng, "Thank you!", "Thanks!", "Thank you very much."),
                    _pick(rng, "You are welcome!", "You are welcome. I am glad to help."),
                ),
                (
                    _pick(rng, "Goodbye!", "I have to go now.", "Good night!"),
                    _pick(rng, "Goodbye! Have a nice day.", "Goodbye! See you next time.", "Good night! Sleep well."),
                ),
                (
                    _pick(rng, "How are you?", "How are you today?"),
                    filler.one(["I am fine, thank you! How are you?", "I am {happy}, thank you for asking."]),
                ),
                ("How old are you?", "I am a model and have no age."),
                (
                    _pick(rng, "What do you like to do?", "What do you like?"),
                    filler.one(
                        [
                            "I like to tell stories and to listen to you.",
                            "I like to answer questions and to tell stories about {animal}.",
                        ]
                    ),
                ),
                (_pick(rng, "Do you speak Chinese?", "Which languages do you speak?"), "I speak English and Chinese."),
            ]
        )
    ]


def shared(rng: random.Random) -> list[Turn]:
    """The user tells what happened; the answer takes it up."""
    where = rng.choice(PLACES)
    act = rng.choice([act for tag in where["tags"].split() for act in ACTS.get(tag, [])])
    who = person(rng).name
    filler = Filler(rng, TABLES, {"who": who, "place": where["text"], "act": act})
    return [
        (
            filler.one(
                [
                    "I went to {place} with {who} {day}.",
                    "{day}, {who} and I went to {place}.",
                    "I went to {place} {day} to {act}.",
                    "I will go to {place} with {who} {next}.",
                ]
            ),
            filler.one(
                [
                    "That sounds good! Are you {happy}?",
                    "How nice! I would like to know more about {place}.",
                    "Great! It is fun to {act} there.",
                    "Good idea! You can {act} there.",
                ]
            ),
        )
    ]


def tell(rng: random.Random) -> list[Turn]:
    """A request for a story, and the story."""
    if rng.random() < 0.5:
        beast = rng.choice(BEASTS)
        ask = _pick(
            rng,
            f"Tell me a story about a {beast}.",
            f"Please tell me a story about a {beast}.",
            f"I want to hear a story about a {beast}.",
            f"Do you know a story about a {beast}?",
        )
        return [(ask, tale(rng, beast))]
    where = rng.choice(PLACES)["text"]
    ask = _pick(
        rng,
        f"Tell me a story about {where}.",
        f"Please tell me a story that happens at {where}.",
        f"I want to hear a story about {where}.",
        "Please tell me a story.",
        "Tell me a short story.",
    )
    return [(ask, story(rng, events=rng.choice([0, 1]), place=where).text)]


KINDS: list[tuple[Callable[[random.Random], list[Turn]], float]] = [
    (told, 8), (animal, 2), (thing, 2), (job, 2), (food, 2), (feeling, 1.5), (weather, 2), (place, 3), (small, 2),
    (about_me, 1.5), (shared, 1.5), (tell, 2.5),
]  # fmt: skip


def conversation(rng: random.Random) -> list[dict[str, str]]:
    """Return one conversation as chat messages: sometimes a system message, then one to three questions with answers."""
    messages: list[dict[str, str]] = []
    if rng.random() < 0.2:
        messages.append({"role": "system", "content": rng.choice(SYSTEM)})
    makers, weights = zip(*KINDS, strict=True)
    for maker in rng.choices(makers, weights, k=rng.choice([1, 1, 2])):
        for question, answer in maker(rng):
            messages += [
                {"role": "user", "content": polish(question)},
                {"role": "assistant", "content": polish(answer)},
            ]
    return messages
