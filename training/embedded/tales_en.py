# ruff: noqa: E501  (tables and templates read better whole)
"""More kinds of English text: tales of animals, portraits of people, days at home."""

from __future__ import annotations

import random

from training.embedded.facts_en import JOBS
from training.embedded.grammar import Filler, Word
from training.embedded.stories_en import ME, person, polish
from training.embedded.words_en import ACTS, PLACES, TABLES, WEATHER

_TABLES: dict[str, list[Word]] = {
    **TABLES,
    "beast": ["rabbit", "fox", "bear", "squirrel", "mouse", "hedgehog", "duck", "monkey", "goat", "elephant", "cat", "frog", "owl"],
    "trait": ["clever", "brave", "kind", "shy", "playful", "lazy", "cheerful", "helpful", "curious", "proud", "gentle"],
    "good": ["clever", "brave", "kind", "helpful", "gentle"],
    "wild": ["in a forest", "in a cave", "by a small river", "under an old tree", "in a meadow", "on a hill", "by a lake", "near a village"],
    "treasure": ["a shining stone", "a golden key", "an old map", "a singing flower", "an empty box", "a small mirror", "a white feather", "a magic book", "a little lamp"],
    "weathers": [entry["text"] for entry in WEATHER],
    "chore": [{"text": base, "past": past} for base, past in (
        ("sweep the floor", "swept the floor"), ("wash the clothes", "washed the clothes"), ("clean the windows", "cleaned the windows"),
        ("water the flowers", "watered the flowers"), ("cook lunch", "cooked lunch"), ("wash the dishes", "washed the dishes"),
        ("tidy the bookshelf", "tidied the bookshelf"), ("make the bed", "made the bed"), ("repair a chair", "repaired a chair"),
        ("bake a cake", "baked a cake"))],
    "hobby": [act for tag in ("park", "study", "sport", "club", "water") for act in ACTS[tag]],
    "place": [place["text"] for place in PLACES],
    "room": ["kitchen", "living room", "bedroom", "garden", "attic"],
}  # fmt: skip

TALE = [
    "Once upon a time, a {trait} {beast1} lived {wild1}./Long ago, there was a {trait} {beast1} who lived {wild1}./{wild1}, there lived a {beast1}, and it was very {trait}./There once was a {beast1}, and everyone said that it was {trait}.",
    "One day, {weathers}, and the {beast1} went out to look for {fruit1}./One morning, the {beast1} found {treasure1} {wild2}./Its best friend was a {trait} {beast2}./Every day it looked for food {wild2}, but it never shared anything.",
    'On the way, it met a {trait} {beast2}./Then the {beast2} came and said, "Please help me!"/The {beast2} saw it and said, "We are friends, and friends should share."/Suddenly, a strong wind came, and the {beast2} fell into the water.',
    "The {beast1} thought for {dur} and had a good idea./The {beast1} was {sad}, but it did not run away./The {beast1} ran and called {num} friends./The {beast1} took out {treasure2} and gave it to the {beast2}.",
    'They all worked together, and before night it was done./The {beast2} was very {happy} and gave the {beast1} some {snack}./They went back together and ate many {fruit}./The {beast2} said, "Thank you, you are very {good}!"',
    "From that day on, they were good friends./After that, the {beast1} was never {sad} again./That night, the stars were bright, and they slept well./The {beast1} learned that it is good to help others./From then on, everyone wanted to play with the {beast1}.",
]

PORTRAIT = [
    "{H} is {job} and works {jobplace}./{H} is {age} years old and very {trait1}./{H} lives near {place1} and is {job}./I have known {H} for {num} years.",
    "{P} gets up at {early} every morning and goes to work {ride}./{job} {jobdoes}, and {P} likes this work./{poss} favorite season is {season}./{P} has a {adj_animal} dog, and its name is {dog1}.",
    "{P} likes to {hobby1} and often goes to {place2}./In {poss} free time, {P} likes to {hobby1} and to {hobby2}./{P} can {skill1} and wants to learn to {skill2}./There are many books in {poss} room, and there is also {gift1}.",
    "{P} likes {dish1}, and {P} likes {fruit1} too./{P} likes to wear {color1} clothes./{P} does not like {dish1} very much, but {P} loves {dish2}./Every evening, {P} drinks a cup of {drink1}.",
    'Last week, {P} went to {place1} with {F} and was very {happy}./{P} and {F} are good friends and often {hobby2} together./{P} says, "I want to see many places."/{F} says that {P} is very {trait}.',
    'Everyone likes {O}./I hope to see {O} {next}./{P} always says, "Take your time."/When I am with {O}, I always feel {happy}.',
]

HOME = [
    "{day}, {weathers}, and {H} stayed at home./{day}, {H} was at home and {chore1.past}./{H} had a free day {day}./When {H} woke up {day}, {weathers}.",
    "First {P} {chore1.past}, and then {P} {chore2.past}./For breakfast, {P} ate {dish1} and drank some {drink1}./{P} sat in the {room1} and read {book1}./{P} listened to music and {chore1.past}.",
    "{F} called and wanted to visit {O}./{F} was in the {room2} and {chore2.past} for {dur}./Somebody knocked at the door, and it was {F}./In the {room2}, {P} found {gift1} and thought of {F}.",
    "They made {dish2} together, and it tasted {taste}./{F} brought {gift2} and some {snack1}./They sat in the {room3} and talked for {dur}./{F} taught {O} how to {skill1}, and it was fun.",
    'In the evening, {P} was very {happy}./At night, {P} wrote in a diary and went to bed./{P} thought, "I will go to {place1} {next}."/Before going to bed, {P} read {book2} for a while.',
]


BEASTS = [str(beast) for beast in _TABLES["beast"]]


def tale(rng: random.Random, beast: str | None = None) -> str:
    """Tell one tale, portrait or day at home; with ``beast`` a tale of that animal."""
    kind = TALE if beast else rng.choice([TALE, TALE, PORTRAIT, HOME])
    hero, friend = person(rng, 0.3), person(rng, 0.3)
    while friend.name == hero.name:
        friend = person(rng, 0.3)
    job, where, does = rng.choice(JOBS)
    if kind is HOME and rng.random() < 0.4:
        hero = ME
    values: dict[str, Word] = {
        "H": hero.name,
        "P": hero.subject,
        "O": hero.object,
        "poss": hero.possessive,
        "F": friend.name,
        "job": job,
        "jobplace": where,
        "jobdoes": does,
        "day": str(rng.choice(TABLES["day"])).replace("my birthday", f"{hero.possessive} birthday"),
        "age": rng.choice(["eighteen", "twenty", "thirty", "forty", "fifty", "sixty"]),
        "early": rng.choice(["five", "six", "seven", "eight", "half past six"]),
    }
    if beast:
        values["beast1"] = beast
    filler = Filler(rng, _TABLES, values)
    text = " ".join(filler.one(beat.split("/")) for beat in kind)
    return polish(text.replace("They ", "We ") if hero is ME else text)
