# ruff: noqa: E501  (tables and templates read better whole)
"""Short English everyday stories: who went where, in which weather, what happened there, and how it ended."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from training.embedded.grammar import Filler, Word
from training.embedded.words_en import ACTS, ANIMALS, FEMALE_KIN, MALE_KIN, MEN, PLACES, TABLES, WEATHER, WOMEN

OPENING_ALONE = """
{day}, {H} went to {place}.
{day}, {H} went to {place} {ride}.
{H} went to {place} {dayl}.
{H} went to {place} {dayl} to {act1}.
{day}, {H} went to {place}, and {weather}.
{H} wanted to {act1}, so {S} went to {place} {ride}.
{day}, {weather}, so {H} decided to {act1} {loc}.
{day}, {H} had nothing to do and went to {place}.
{H} got up early and went to {place} {ride}.
{H} liked to {act1}, so {S} went to {place} again {dayl}.
{day}, {H} was alone {loc}.
{weather} when {H} came to {place}.
{H} walked to {place} {dayl} because {S} wanted to {act1}.
{day}, {H} spent {dur} {loc}.
""".strip().splitlines()

OPENING_TOGETHER = """
{day}, {H} and {C} went to {place}.
{day}, {H} and {C} went to {place} {ride}.
{H} went to {place} with {C} {dayl}.
{H} went to {place} {dayl}, and {C} came along.
{day}, {C} took {Hobj} to {place}.
{day}, {weather}, so {H} and {C} decided to {act1} {loc}.
{C} wanted to {act1}, so {H} and {C} went to {place} {dayl}.
{H} met {C} {loc} {dayl}, and they decided to {act1}.
{weather} when {H} and {C} came to {place}.
{day}, {C} asked {Hobj}, "Do you want to {act1} with me?"
{day}, {H} and {C} had nothing to do and went to {place}.
{H} and {C} spent {dur} {loc} {dayl}.
""".strip().splitlines()

WEATHER_OUT = """
{weather}.
{weather}, and {W} felt good.
{weather}, so there were not many people around.
When {W} got there, {weather}.
""".strip().splitlines()

WEATHER_IN = """
Outside, {weather}, but it was cozy inside.
{weather}, so there were many people {loc}.
{weather}, but nobody {loc} cared about it.
Outside, {weather}, and {loc} it was very quiet.
""".strip().splitlines()

CONSEQUENCES = {
    "sun": """{S} wore a {color} hat.
{W} sat {spot} for {dur} and enjoyed the sun.
The {bloom} were in bloom, and everything smelled sweet.
{poss} face felt warm in the light.""",
    "hot": """{W} bought {cool} and felt much better.
{W} rested {shelter} for {dur}.
{S} drank {num} glasses of water.
{S} said, "I would love {cool} now!\"""",
    "rain": """{S} opened a {color} umbrella.
{S} had no umbrella and waited {shelter}.
{poss} shoes were wet, but {S} was still {happy}.
{W} stood {shelter} for {dur} until the rain stopped.
{helper} lent {O} an umbrella.""",
    "wet": """{S} walked carefully around the puddles.
{S} wore {color} boots.
The {bloom} were full of raindrops and looked lovely.
The air was clean and smelled of {bloom}.""",
    "wind": """The wind blew {poss} hat away, and it landed {spot}.
The leaves danced in the air.
{S} quickly put on {wear}.
{W} hid from the wind {shelter} for {dur}.""",
    "breeze": """{W} could smell the {bloom}.
The air felt good, and {S} was {happy}.
{W} walked slowly and talked about many things.
The leaves moved gently.""",
    "cold": """{S} wore {wear} and did not feel cold at all.
{W} had {warm} and felt warm again.
{S} was shaking with cold, so {helper} gave {O} a cup of {drink}.
{S} had no gloves, and {poss} hands turned red.""",
    "snow": """{W} built a big snowman with a {color} hat.
The trees and the houses were all white.
{W} threw snowballs for {dur} and laughed a lot.
{S} left a line of footprints in the snow.""",
    "fog": """{S} walked slowly because {S} could not see the way.
The houses far away were hard to see.
After {dur}, the fog went away.
{W} almost took the wrong road.""",
    "cloud": """{S} took a {color} umbrella along.
{S} was afraid of rain and walked fast.
After {dur}, the sun came out.
Luckily, it did not rain.""",
}

DOING = """
{W} {act1.past}, and then {W} {act2.past}.
First {W} {act1.past}, and after {dur} {W} {act2.past}.
{S} liked to {act1} more than anything else.
{W} {act1.past} {loc} for {dur}.
{S} {act1.past} and felt {happy}.
It was the first time that {S} {act1.past}, and everything was new.
{S} wanted to {act1}, but there were too many people, so {S} {act2.past}.
{S} {act1.past} for {dur} and was not tired at all.
{helper} showed {O} how to {act1}.
{S} loved {act1.ing}, and {dur} passed quickly.
""".strip().splitlines()

DOING_TOGETHER = """
{C} liked to {act1}, but {S} wanted to {act2}.
While {C} {act1.past}, {S} {act2.past}.
{S} showed {C} how to {act1}.
{C} said, "Let's {act1}!" {S} said, "Good idea!"
{S} asked {C}, "Would you like to {act1} or {act2}?" {C} answered, "I would like to {act1}."
{C} and {S} {act1.past} together.
{C} was {happy} because {W} {act1.past}.
""".strip().splitlines()

SIGHT_ANIMAL = """
There was a {adj_animal} {animal} {loc}, and it was {animal_doing}.
{S} saw a {adj_animal} {animal} {animal_doing}.
Suddenly, a {adj_animal} {animal} came near, and {S} took a photo of it.
{S} watched a {adj_animal} {animal} for {dur}; it was {animal_doing}.
{S} gave some food to a {adj_animal} {animal}, and it looked {happy}.
""".strip().splitlines()

SIGHT_PERSON = """
{S} saw {person_seen} {doing_seen}.
{person_seen} was {doing_seen} {spot}, and {W} watched for {dur}.
{person_seen} was {doing_seen}, and everybody stopped to look.
{S} talked with {person_seen} for {dur} and learned many interesting things.
""".strip().splitlines()

EVENTS = [
    [
        "Suddenly, {S} noticed that {poss} {lost1} was gone./When {S} sat down {spot}, {S} could not find {poss} {lost1}./{S} looked for {poss} {lost1}, but it was not there./Then {S} lost {poss} {lost1}.",
        "{S} was very {sad} and searched for {dur}./{S} was so {sad} that {S} almost cried./{S} went back and looked everywhere for {dur}./{W} searched for {dur} but found nothing.",
        'Later, {helper1} found the {lost1} {spot} and gave it back./At last, {S} found the {lost1} {spot}./Then {helper1} came and asked, "Is this your {lost1}?"/The {lost1} was lying {spot} all the time.',
        '{S} said, "Thank you so much!"/{S} smiled and felt {happy}./{S} promised to be more careful./Now {S} was not {sad} any more.',
    ],
    [
        "{spot}, {S} met {N}./Someone called {poss} name, and it was {N}./{S} was surprised to see {N} {loc}./{person_seen} looked at {O}, and beside that person stood {N}.",
        'They had not seen each other for {num} years./{N} wore {wear}, so {S} almost did not know who it was./{N} had just moved here and worked as a {job}./{N} said, "It has been a long time! Do you remember me?"',
        "They drank {drink} together and talked for {dur}./{N} invited {O} to eat {dish}, and they talked about the old days./They promised to meet again {next}./{N} gave {O} {gift}, and {S} was very {happy}.",
    ],
    [
        "{S} saw {helper1} with a very heavy bag./A small child was crying {spot} because the child could not find the way home./{helper1} did not know the way and asked for help./{helper1} was looking for something {spot} and seemed {sad}.",
        '{S} went over to help at once./{S} asked, "Can I help you?"/{W} decided to help./{S} said, "Don\'t be {sad}. I will help you."',
        "After {dur}, the problem was solved./Everybody helped, and soon it was done./It took {dur}, but in the end it went well./{helper} came to help too.",
        "{S} got {gift} as a thank-you present./{S} felt {happy} because it is good to help others./Everyone said that {S} did well./{S} went on with a {happy} heart.",
    ],
    [
        "{S} wanted to buy a birthday present for {F}./In a small shop nearby, {S} saw {gift1}./It was almost {F_poss} birthday, and {S} wanted to buy {gift1}./{S} had always wanted {gift1}.",
        '{S} looked at everything for {dur} and took the {color} one./It cost a lot of money, and {S} felt a little {sad}./The shopkeeper said, "This is the last one."/{S} counted {poss} money, and it was just enough.',
        "{F} loved the present and jumped for joy./{S} hid the present {spot} as a surprise for {F}./{S} wrapped it up and wrote a {color} card./{S} also bought {buy} and went on with a smile.",
    ],
    [
        "{S} heard a strange sound {spot}./A {adj_animal} dog followed {O} everywhere./{S} found a {adj_animal} kitten {spot}, and its leg was hurt./{spot}, {S} saw a {adj_animal} dog.",
        "It looked cold and hungry./It seemed to be lost./It looked up with big eyes./It made a soft sound {num} times.",
        '{S} gave it some milk, and soon it fell asleep./{S} picked it up and took it to the vet./{helper} said, "That is my {dog1}! I looked for it for {dur}!"/{S} decided to take it home and called it {dog1}.',
    ],
    [
        "At noon, {W} ate {dish1} {shelter}./{S} was hungry and bought {dish1}./For lunch, {S} had {dish1} and some {fruit1}./{S} brought {snack1} to share with everyone.",
        "The food was {taste}, and {S} ate a lot./Then {S} spilled {drink} on {poss} shirt./{S} shared the {fruit} with {person_seen}./{W} also tried {snack2}, and it tasted {taste}.",
        'After that, {S} drank a cup of {drink}./Everyone enjoyed the meal./{S} said, "I want to eat {dish} next time."/{S} thought that it was better than {dish2}.',
    ],
    [
        '{F} could {skill1}, and {S} wanted to learn it./It was the first time that {S} tried to {skill1}./{S} had always wanted to {skill1}./{F} asked, "Do you want to learn how to {skill1}?"',
        "At first, it was hard, and {S} felt {sad}./{S} tried {num} times without success./It was not easy, but {S} did not give up./{S} practiced for {dur}, but it still went wrong.",
        '{F} said, "Take your time."/{F} said, "Don\'t be afraid. Try again."/{F} {slow} explained it {num} times./Somebody said, "You only need a little more practice."',
        "In the end, {S} learned to {skill1} and was very {happy}./After {dur}, it finally worked./Now {S} could {skill1} without any help./{S} decided to practice for {dur} every day.",
    ],
    [
        "There was a traffic jam, and {W} came late./{S} took the wrong bus and needed {dur} more./{S} got up too late and almost missed the train./The bus broke down, and everyone was {sad}.",
        '{S} called {F} and said, "I am sorry, I will be late."/{F} waited for {dur} and was a little {sad}./{S} ran as fast as possible./{S} waited {shelter} for the next bus.',
        'Luckily, {S} did not miss the best part./In the end, everything went well./{F} was not angry and offered {O} some {drink}./{S} thought, "Tomorrow I must get up earlier."',
    ],
    [
        "There was a {contest1} {loc} that day./{S} took part in a {contest1}./Some children were playing a funny game {spot}./{person_seen} asked {O} to join a game.",
        "{S} was {sad}, but {F} cheered for {O}./{S} tried very hard and forgot everything else./The others were strong, and {S} almost lost./At the start, {S} lost {num} times.",
        "In the end, {S} came {rank} and won {gift}./{S} did not win, but it was fun./{S} won, and everyone clapped./After the game, they all ate {snack} together.",
    ],
    [
        "{S} sat down {spot} and read {book1}./{F} told {O} a story about a {animal_any1}./{S} had {book1} with {O} and read a few pages./{S} found {book1} {spot} and liked it at once.",
        "In the story, a {adj_animal} {animal_any1} lived near {place_any}./The story was about a {job} and a {animal_any1}./The pictures were beautiful, and {S} looked at them for {dur}./{S} read so long that {S} forgot the time.",
        '{S} thought, "One day I want to be a {job}."/After that, {S} lent the book to {F2}./Later, {S} told the story to {F2}./{S} found the story very interesting.',
    ],
    [
        "{S} dropped a {thing1} and broke it./Suddenly, the lights went out {loc}./The {thing1} was broken, and nobody could repair it./{S} stepped into a puddle and got wet.",
        "{S} felt {sad} and turned red./Everyone was surprised./{S} did not know what to do./{F} heard the noise and came at once.",
        '{F} said, "It doesn\'t matter. Nobody is hurt."/{helper} brought some tools and needed only {num} minutes./After {dur}, everything was fine again./{S} said sorry, and {F} smiled.',
    ],
    [
        "It was {F_poss} birthday that day./In the evening, there was a birthday party for {F}./{W} prepared a party for {F}./{F} had a new job as a {job}, and everybody celebrated.",
        "{S} made {dish1} and {dish2}./{S} gave {F} {gift1}./There were {snack1}, {fruit1} and {drink1} on the table./They sang songs and ate {snack1}.",
        '{F} said, "This is a wonderful day!"/{F} made a wish and blew out the candles./{F} was so {happy} that nobody could stop laughing./The party lasted until late at night.',
    ],
]

ENDING = """
{S} felt very {happy}.
On the way home, {W} bought {buy}.
In the evening, {S} ate {dish} and went to bed early.
{S} told {F2} about it, and {F2} was {happy} too.
{S} hoped to go to {place} again {next}.
At home, {S} wrote about the day in a diary.
{S} said, "Let's come back {next}!"
It was a {mood} day for everyone.
When it got dark, {W} went home {ride}.
{S} will never forget that day.
{S} was tired but {happy}.
{W} planned to go to {place_any} {next} to {act_any}.
When {S} came home, {F2} had already made {dish}.
At night, {S} called {F2} and talked for {dur}.
{S} lay in bed, thought of {place} and soon fell asleep.
{S} showed the photos to {F2}, and {F2} said, "How beautiful!"
Before leaving, {S} bought {gift} for {F2}.
From then on, {S} often went to {place} to {act1}.
At home, {S} drank some {drink} and felt {happy}.
""".strip().splitlines()

_SENTENCE_START = re.compile(r'(^|[.!?]"? |, ")([a-z])')
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")


@dataclass(frozen=True)
class Person:
    """Someone in a story: the name as a subject, and the pronouns that stand for them."""

    name: str
    subject: str
    object: str
    possessive: str


ME = Person("I", "I", "me", "my")


def person(rng: random.Random, kin: float = 0.4) -> Person:
    """Draw a person; ``kin`` is the chance of a relative or an acquaintance instead of a name."""
    male = rng.random() < 0.5
    if rng.random() < kin:
        name = "my " + rng.choice(MALE_KIN if male else FEMALE_KIN)
    else:
        name = rng.choice(MEN if male else WOMEN)
    return Person(name, "he", "him", "his") if male else Person(name, "she", "her", "her")


@dataclass
class Story:
    """A finished story with what it is about, so that questions can be asked of it."""

    text: str
    facts: dict[str, str]


def polish(text: str) -> str:
    """Set capitals at sentence starts and turn ``a`` into ``an`` before a vowel."""
    text = _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)
    return _ARTICLE.sub(r"\1n ", text)


def _acts(rng: random.Random, tags: list[str]) -> list[Word]:
    acts: list[Word] = []
    for tag in tags:
        acts += ACTS.get(tag, [])
    rng.shuffle(acts)
    return acts


_TABLES: dict[str, list[Word]] = {**TABLES, "animal_any": [animal["text"] for animal in ANIMALS]}


# What a day must not mention in some weather.
_UNFIT = {"snow": ("summer", "spring", "autumn"), "cold": ("summer",), "hot": ("winter", "spring")}


def _day(rng: random.Random, tags: str) -> str:
    unfit = [word for tag in tags.split() for word in _UNFIT.get(tag, ())]
    return rng.choice([day for day in map(str, TABLES["day"]) if not any(word in day for word in unfit)])


def _filler(rng: random.Random, about: str | None) -> tuple[Filler, list[str], list[str], bool]:
    place = rng.choice([entry for entry in PLACES if about in (None, entry["text"])] or PLACES)
    tags = place["tags"].split()
    hero = ME if rng.random() < 0.45 else person(rng, 0.3)
    together = rng.random() < 0.6
    companion, friend, family, old_friend = person(rng), person(rng), person(rng), person(rng, 0.0)
    while len({hero.name, companion.name, friend.name, family.name, old_friend.name}) < 5:
        companion, friend, family, old_friend = person(rng), person(rng), person(rng), person(rng, 0.0)
    weather = rng.choice(WEATHER)
    acts = _acts(rng, tags)
    elsewhere = rng.choice([other for other in PLACES if other is not place])
    friend_name = companion.name if together and rng.random() < 0.5 else friend.name
    day = _day(rng, weather["tags"])
    if hero is not ME:
        day = day.replace("my birthday", f"{hero.possessive} birthday")
    values: dict[str, Word] = {
        "O": hero.object,
        "P": hero.subject,
        "poss": hero.possessive,
        "C": companion.name,
        "F": friend_name,
        "F_poss": friend_name + "'s",
        "F2": family.name,
        "N": old_friend.name,
        "place": place["text"],
        "loc": place["loc"],
        "weather": weather["text"],
        "act1": acts[0],
        "act2": acts[1 % len(acts)],
        "place_any": elsewhere["text"],
        "act_any": rng.choice(_acts(rng, elsewhere["tags"].split())),
        "day": day,
        "dayl": day,
        "Hobj": hero.object if hero is ME else hero.name,
        "H": hero.name,
    }
    animals = [animal for animal in ANIMALS if set(animal["tags"].split()) & set(tags)]
    if animals:
        animal = rng.choice(animals)
        values["animal"] = animal
        values["animal_doing"] = rng.choice(animal["doing"].split(","))
    filler = Filler(rng, _TABLES, values)

    def subject() -> str:
        unclear = together and hero.subject == companion.subject
        return hero.subject if hero is ME or rng.random() < (0.3 if unclear else 0.75) else hero.name

    def everyone() -> str:
        if not together:
            return hero.subject
        return "we" if hero is ME else "they"

    filler.resolvers = {"S": subject, "W": everyone}
    return filler, tags, weather["tags"].split(), together


def story(rng: random.Random, events: int | None = None, place: str | None = None) -> Story:
    """Tell one story; ``events`` fixes how many things happen (by default none to two), ``place`` where it happens."""
    filler, tags, weather_tags, together = _filler(rng, place)
    first = filler.one(OPENING_TOGETHER if together else OPENING_ALONE)
    mine = filler.values["H"] == "I"
    if mine:
        first = first.replace("they decided", "we decided")
        companion = str(filler.values["C"])
        first = first.replace(f"I and {companion}", f"{companion} and I")
    lines = [first]
    outside = "out" in tags
    weather_said = str(filler.values["weather"]) in first
    if not weather_said and rng.random() < 0.65:
        lines.append(filler.one(WEATHER_OUT if outside else WEATHER_IN))
        weather_said = True
    if weather_said and outside and rng.random() < 0.7:
        lines.append(filler.one(CONSEQUENCES[rng.choice(weather_tags)].splitlines()))
    if rng.random() < 0.75:
        lines.append(filler.one(DOING_TOGETHER if together and rng.random() < 0.5 else DOING))
    if rng.random() < 0.5:
        lines.append(filler.one(SIGHT_ANIMAL if "animal" in filler.values and rng.random() < 0.6 else SIGHT_PERSON))
    count = rng.choice([0, 1, 1, 1, 2]) if events is None else events
    for event in rng.sample(EVENTS, count):
        lines += [filler.one(beat.split("/")) for beat in event]
    lines += [filler.fill(ending) for ending in rng.sample(ENDING, rng.choice([1, 1, 2]))]
    facts = {key: value for key, value in filler.values.items() if isinstance(value, str)}
    act = filler.values["act1"]
    facts["act"] = act if isinstance(act, str) else act["text"]
    facts["act_past"] = "" if isinstance(act, str) else act["past"]
    facts["together"] = "yes" if together else ""
    return Story(polish(" ".join(lines)), facts)
