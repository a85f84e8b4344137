# ruff: noqa: E501  (tables and templates read better whole)
"""Chinese conversations: questions about a story just told, everyday questions, small talk, requests for a story."""

from __future__ import annotations

import random
from collections.abc import Callable

from training.embedded import facts_zh as facts
from training.embedded.grammar import Filler
from training.embedded.stories_zh import person, story
from training.embedded.tales_zh import BEASTS, tale
from training.embedded.words_zh import ACTS, PLACES, TABLES, WEATHER

Turn = tuple[str, str]
"""A question and its answer."""

SYSTEM = [
    "你是一个友好的助手。",
    "请用简单的中文回答。",
    "你是一个会讲故事的助手。",
    "请回答用户的问题。",
    "你叫莱普顿，喜欢帮助别人。",
    "请简短地回答。",
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
    acts = [act for tag in place["tags"].split() for act in ACTS.get(tag, [])]
    act = rng.choice(acts)
    weather = rng.choice(WEATHER)["text"]
    ride, bought, day = (filler.fill(slot) for slot in ("{ride}", "{buy}", "{day}"))
    feeling, food = filler.fill("{happy}"), filler.fill("{dish}")
    name, pronoun, other = who.name, who.pronoun, friend.name
    lines = [_pick(rng, f"{day}，{name}去了{place['text']}。", f"{name}{day}去了{place['text']}。")]
    questions: list[Turn] = [
        (_pick(rng, f"{name}去了哪里？", f"{name}去哪儿了？"), f"{name}去了{place['text']}。"),
        (_pick(rng, f"谁去了{place['text']}？", "这个故事里的人是谁？"), f"{name}去了{place['text']}。"),
        (_pick(rng, f"{name}什么时候去了{place['text']}？", "这是什么时候的事？"), f"{name}{day}去了{place['text']}。"),
    ]
    extra: list[tuple[str, Turn]] = [
        (
            _pick(rng, f"{pronoun}是和{other}一起去的。", f"{other}也去了。", f"{other}跟{pronoun}一起去。"),
            (_pick(rng, f"{name}和谁一起去的？", f"谁跟{name}一起去了？"), f"{name}是和{other}一起去的。"),
        ),
        (
            _pick(rng, f"那天{weather}。", f"{weather}。"),
            (_pick(rng, "那天天气怎么样？", "天气怎么样？"), f"那天{weather}。"),
        ),
        (
            f"{pronoun}在那里{act['text']}。",
            (_pick(rng, f"{name}在那里做什么？", f"{name}在{place['text']}做了什么？"), f"{name}在那里{act['text']}。"),
        ),
        (f"{pronoun}是{ride}去的。", (_pick(rng, f"{name}怎么去的？", f"{name}是怎么去的？"), f"{name}是{ride}去的。")),
        (
            _pick(rng, f"{pronoun}买了{bought}。", f"回家的路上，{pronoun}买了{bought}。"),
            (_pick(rng, f"{name}买了什么？", f"{pronoun}买了什么？"), f"{pronoun}买了{bought}。"),
        ),
        (
            f"{pronoun}觉得很{feeling}。",
            (_pick(rng, f"{name}觉得怎么样？", f"{name}的心情怎么样？"), f"{pronoun}觉得很{feeling}。"),
        ),
        (f"晚上{pronoun}吃了{food}。", (f"{name}晚上吃了什么？", f"{pronoun}晚上吃了{food}。")),
    ]
    for line, question in rng.sample(extra, rng.choice([1, 2, 2, 3])):
        lines.append(line)
        questions.append(question)
    text = "".join(lines)
    asked = rng.sample(questions, rng.choice([1, 1, 2, 3]))
    first = _pick(rng, f"{text}{asked[0][0]}", f"{text}请问，{asked[0][0]}", f"请听故事：{text}{asked[0][0]}")
    return [(first, asked[0][1]), *asked[1:]]


def animal(rng: random.Random) -> list[Turn]:
    """Where an animal lives, what it eats, what it is like."""
    name, home, food, like = rng.choice(facts.ANIMALS)
    home_at = home if home[-1] in "上下里边" else f"{home}里"
    turns = [
        (
            _pick(rng, f"{name}住在哪里？", f"{name}一般生活在什么地方？"),
            _pick(rng, f"{name}住在{home_at}。", f"{name}一般生活在{home_at}。"),
        ),
        (_pick(rng, f"{name}吃什么？", f"{name}喜欢吃什么？"), f"{name}喜欢吃{food}。"),
        (
            _pick(rng, f"{name}是什么样的动物？", f"请介绍一下{name}。", f"你知道{name}吗？"),
            _pick(rng, f"{name}{like}。", f"我知道{name}，它{like}。", f"{name}住在{home_at}，{like}。"),
        ),
    ]
    return rng.sample(turns, rng.choice([1, 1, 2]))


def thing(rng: random.Random) -> list[Turn]:
    """What a thing is for and where one buys it."""
    name, measure, use, shop = rng.choice(facts.THINGS)
    return [
        rng.choice(
            [
                (_pick(rng, f"{name}有什么用？", f"{name}是用来做什么的？"), f"{name}可以用来{use}。"),
                (
                    _pick(rng, f"我想买一{measure}{name}，去哪里买？", f"在哪里可以买到{name}？"),
                    f"你可以去{shop}买一{measure}{name}。",
                ),
                (f"我需要一{measure}{name}吗？", f"如果你想{use}，就需要一{measure}{name}。"),
            ]
        )
    ]


def job(rng: random.Random) -> list[Turn]:
    """What someone does for a living and where."""
    name, where, does = rng.choice(facts.JOBS)
    return rng.sample(
        [
            (
                _pick(rng, f"{name}做什么工作？", f"{name}每天做什么？"),
                _pick(rng, f"{name}的工作是{does}。", f"{name}每天{does}。"),
            ),
            (f"{name}在哪里工作？", f"{name}一般在{where}工作。"),
            (f"我长大以后想当{name}。", f"真好！{name}的工作是{does}，你要好好学习。"),
        ],
        rng.choice([1, 1, 2]),
    )


def food(rng: random.Random) -> list[Turn]:
    """How something tastes, when it is eaten, what to eat today."""
    name, taste, when = rng.choice(facts.FOODS)
    filler = Filler(rng, TABLES)
    return [
        rng.choice(
            [
                (_pick(rng, f"{name}好吃吗？", f"{name}是什么味道的？"), f"{name}{taste}，很多人都喜欢。"),
                (f"人们什么时候吃{name}？", f"人们喜欢在{when}吃{name}。"),
                (
                    _pick(rng, "今天晚上吃什么好？", "你觉得我中午吃什么好？", "我不知道吃什么。"),
                    filler.one(
                        [
                            "你可以吃{dish1}，再喝一杯{drink1}。",
                            "我建议你吃{dish1}和{dish2}。",
                            "吃{dish1}怎么样？{dish1}{taste}。",
                        ]
                    ),
                ),
                (
                    _pick(rng, "你喜欢吃什么？", "你最喜欢的水果是什么？"),
                    filler.one(
                        ["我喜欢{fruit1}，因为{fruit1}{taste}。", "我不用吃饭，可是我觉得{fruit1}一定{taste}。"]
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
        f"我今天很{name}，怎么办？",
        f"我觉得很{name}。",
        f"我有点儿{name}，应该做什么？",
        f"如果{name}，应该怎么办？",
    )
    return [(question, _pick(rng, f"你可以{advice}。", f"别担心，你可以{advice}。", f"我建议你{advice}。"))]


def weather(rng: random.Random) -> list[Turn]:
    """What to wear and do in some weather; what a season is like."""
    name, wear, plan = rng.choice(facts.WEATHER)
    season, like, fun = rng.choice(facts.SEASONS)
    return [
        rng.choice(
            [
                (
                    _pick(rng, f"{name}的时候应该怎么办？", f"{name}的时候出门要注意什么？"),
                    f"{name}的时候，出门要{wear}。",
                ),
                (_pick(rng, f"{name}的时候可以做什么？", f"今天{name}，我们做什么好？"), f"{name}的时候，可以{plan}。"),
                (_pick(rng, f"{season}的天气怎么样？", f"{season}是什么样的？"), f"{season}{like}。"),
                (_pick(rng, f"{season}可以做什么？", f"人们{season}喜欢做什么？"), f"{season}人们喜欢{fun}。"),
                (_pick(rng, "你最喜欢哪个季节？", "你喜欢什么季节？"), f"我最喜欢{season}，因为{like}。"),
                (
                    _pick(rng, "今天天气怎么样？", "外面天气怎么样？"),
                    _pick(
                        rng, f"我看不到外面，不过{name}的话，你要{wear}。", "对不起，我看不到窗外，你可以自己看一看。"
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
    loc = where["loc"]
    return [
        rng.choice(
            [
                (
                    _pick(
                        rng,
                        f"人们在{loc}做什么？",
                        f"人们在{where['text']}做什么？",
                        f"在{loc}可以做什么？",
                        f"我想去{where['text']}，那里有什么好玩的？",
                    ),
                    _pick(rng, f"在{loc}可以{one}，也可以{two}。", f"人们在{loc}{one}、{two}。"),
                ),
                (_pick(rng, f"我想{one}，去哪里好？", f"去哪里可以{one}？"), f"你可以去{where['text']}{one}。"),
                (
                    _pick(rng, "周末去哪里玩好？", "我今天应该去哪里？", "明天我们去哪里？"),
                    _pick(
                        rng,
                        f"你可以去{where['text']}，在那里{one}。",
                        f"去{where['text']}怎么样？可以{one}，还可以{two}。",
                    ),
                ),
            ]
        )
    ]


def small(rng: random.Random) -> list[Turn]:
    """Opposites, colors, weekdays and sums up to ten."""
    left, right = rng.choice(facts.OPPOSITES)
    if rng.random() < 0.5:
        left, right = right, left
    what, color = rng.choice(facts.COLORS)
    day = rng.randrange(7)
    total = rng.randint(2, 10)
    part = rng.randint(1, total - 1)
    number = facts.NUMBERS
    return [
        rng.choice(
            [
                (
                    _pick(rng, f"“{left}”的反义词是什么？", f"跟“{left}”相反的词是什么？"),
                    f"“{left}”的反义词是“{right}”。",
                ),
                (_pick(rng, f"{what}是什么颜色的？", f"{what}是什么颜色？"), f"{what}是{color}的。"),
                (
                    f"{facts.WEEK[day]}的后面一天是星期几？",
                    f"{facts.WEEK[day]}的后面一天是{facts.WEEK[(day + 1) % 7]}。",
                ),
                (
                    f"{number[part]}加{number[total - part]}等于几？",
                    f"{number[part]}加{number[total - part]}等于{number[total]}。",
                ),
                (
                    f"{number[total]}减{number[part]}等于几？",
                    f"{number[total]}减{number[part]}等于{number[total - part]}。",
                ),
                (_pick(rng, "一年有几个季节？", "一年有哪些季节？"), "一年有四个季节：春天、夏天、秋天和冬天。"),
            ]
        )
    ]


def about_me(rng: random.Random) -> list[Turn]:
    """Greetings, thanks, and who is speaking."""
    filler = Filler(rng, {**TABLES, "animal": list(BEASTS)})
    return [
        rng.choice(
            [
                (
                    _pick(rng, "你好！", "你好", "早上好！", "晚上好！", "嗨，你好！"),
                    _pick(rng, "你好！很高兴见到你。", "你好！我能帮你做什么？", "你好！今天过得怎么样？"),
                ),
                (
                    _pick(rng, "你叫什么名字？", "你是谁？", "请介绍一下你自己。"),
                    _pick(rng, "我叫莱普顿，是一个小小的语言模型。", "我是莱普顿，会讲小故事，也会回答简单的问题。"),
                ),
                (
                    _pick(rng, "你会做什么？", "你能做什么？"),
                    _pick(rng, "我会讲小故事，也会回答简单的问题。", "我能聊天，能讲故事，也能回答关于故事的问题。"),
                ),
                (_pick(rng, "谢谢你！", "谢谢！", "太谢谢你了。"), _pick(rng, "不客气！", "不用谢，很高兴能帮到你。")),
                (
                    _pick(rng, "再见！", "我要走了，再见。", "晚安！"),
                    _pick(rng, "再见！祝你开心。", "再见！下次再聊。", "晚安！做个好梦。"),
                ),
                (
                    _pick(rng, "你今天好吗？", "你好吗？", "你最近怎么样？"),
                    filler.one(["我很好，谢谢你！你呢？", "我很{happy}，谢谢你的关心。"]),
                ),
                (_pick(rng, "你多大了？", "你几岁了？"), "我是一个模型，没有年龄。"),
                (
                    _pick(rng, "你喜欢做什么？", "你喜欢什么？"),
                    filler.one(["我喜欢讲故事，也喜欢听你说话。", "我喜欢回答问题，也喜欢讲{animal}的故事。"]),
                ),
                (_pick(rng, "你会说英语吗？", "你会说什么语言？"), "我会说中文，也会说英语。"),
            ]
        )
    ]


def shared(rng: random.Random) -> list[Turn]:
    """The user tells what happened; the answer takes it up."""
    where = rng.choice(PLACES)
    act = rng.choice([act for tag in where["tags"].split() for act in ACTS.get(tag, [])])["text"]
    who = person(rng).name
    filler = Filler(rng, TABLES, {"who": who, "place": where["text"], "act": act})
    return [
        (
            filler.one(
                [
                    "我{day}和{who}去了{place}。",
                    "我{day}去了{place}{act}。",
                    "{day}我和{who}去{place}{act}。",
                    "我{weekday}要和{who}去{place}。",
                ]
            ),
            filler.one(
                [
                    "真好！你们在{place}玩得{happy}吗？",
                    "听起来很有意思！我也想知道{place}是什么样的。",
                    "太好了！{place}是{act}的好地方。",
                    "去{place}{act}一定很{happy}。",
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
            f"讲一个{beast}的故事。",
            f"请给我讲一个关于{beast}的故事。",
            f"我想听{beast}的故事。",
            f"你会讲{beast}的故事吗？",
        )
        return [(ask, tale(rng, beast))]
    where = rng.choice(PLACES)["text"]
    ask = _pick(
        rng,
        f"请讲一个在{where}的故事。",
        f"给我讲一个关于{where}的故事。",
        f"我想听一个{where}的故事。",
        "请给我讲一个故事。",
        "讲个故事吧。",
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
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages
