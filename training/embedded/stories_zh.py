"""Short Chinese everyday stories: who went where, in which weather, what happened there, and how it ended."""

from __future__ import annotations

import random
from dataclasses import dataclass

from training.embedded.grammar import Filler, Word
from training.embedded.words_zh import (
    ACTS,
    ANIMALS,
    FEMALE_KIN,
    MALE_KIN,
    MEN,
    PLACES,
    TABLES,
    WEATHER,
    WOMEN,
)

OPENING_ALONE = """
{day}{H}去了{place}。
{day}，{H}{ride}去了{place}。
{H}{day}去了{place}。
{H}{day}去了{place}，{weather}。
{H}{day}去了{place}，在那里{act1.v}了{dur}{act1.o}。
{H}{day}去了{place}{act1}，{weather}。
{H}{day}{ride}去了{place}，想在那里{act1}。
{day}，{H}一个人去了{place}。
{day}{weather}，{H}决定去{place}{act1}。
{day}{H}没有事做，就去{place}{act1}。
{weather}，{H}{ride}去{place}{act1}。
{day}{H}起得很早，{ride}到了{place}。
{H}很喜欢{act1}，所以{day}又去了{place}。
{day}，{weather}，{H}来到了{place}。
{H}想{act1}，{day}就去了{place}。
""".strip().splitlines()

OPENING_TOGETHER = """
{day}{H}和{C}去了{place}。
{day}，{H}和{C}{ride}去了{place}。
{H}{day}和{C}一起去了{place}。
{H}{day}和{C}去了{place}，{weather}。
{day}，{C}带{H}去了{place}。
{H}{day}跟{C}去{place}{act1}，{weather}。
{day}{weather}，{H}和{C}决定去{place}{act1}。
{day}{C}没有事做，就和{H}一起去{place}{act1}。
{weather}，{H}和{C}{ride}去{place}{act1}。
{C}想{act1}，{day}{H}就和{C}去了{place}。
{day}，{H}在{place}遇见了{C}，他们决定一起{act1}。
{H}{day}去了{place}，{C}也去了。
{H}{day}去了{place}，在那里遇见了{C}。
{day}，{weather}，{H}跟着{C}来到了{place}。
""".strip().splitlines()

WEATHER_OUT = """
那天{weather}。
{weather}，{W}觉得很舒服。
{weather}，路上的人不多。
到了那里，{W}发现{weather}。
""".strip().splitlines()

WEATHER_IN = """
外面{weather}，里面却很舒服。
那天{weather}，所以{loc}人很多。
虽然外面{weather}，但是{loc}很热闹。
外面{weather}，{loc}很安静。
""".strip().splitlines()

CONSEQUENCES = {
    "sun": """{S}戴着一顶{color}的帽子。
阳光照在{P}身上，暖洋洋的。
{W}坐在{spot}晒了{dur}太阳。
路边的{bloom}都开了，{color}的花特别好看。""",
    "hot": """{W}买了{cool}，一下子就不热了。
{W}热得满头大汗，就在{shelter}休息了{dur}。
{S}一连喝了{num}杯水。
{S}说：“要是有{cool}就好了。”""",
    "rain": """{S}撑着一把{color}的雨伞。
{W}没带雨伞，只好在{shelter}躲雨。
{S}的鞋子都湿了，可是{P}还是很{happy}。
{W}在{shelter}等了{dur}，雨才停。
{helper}把自己的雨伞借给了{S}。""",
    "wet": """{S}小心地走过水坑。
{S}穿着一双{color}的雨鞋。
{bloom}上还有雨水，看起来特别漂亮。
空气很新鲜，还能闻到{bloom}的香味。""",
    "wind": """风把{S}的帽子吹到了{spot}。
风吹得树叶沙沙地响。
{S}赶快穿上了{wear}。
{W}在{shelter}躲了{dur}风。""",
    "breeze": """{W}闻到了{bloom}的香味。
风吹在脸上，{S}觉得很{happy}。
{W}走得很慢，一边走一边说话。
树上的叶子轻轻地动。""",
    "cold": """{S}穿着{wear}，一点儿也不冷。
{W}买了{warm}，心里一下子暖和了。
{S}冷得直发抖，{helper}给了{P}一杯{drink}。
{S}忘了带手套，手冻得红红的。""",
    "snow": """{W}堆了一个大雪人，给它戴上了{color}的帽子。
树上、房子上都是白白的雪。
{W}打了{dur}雪仗，玩得很{happy}。
{S}在雪地上留下了一串脚印。""",
    "fog": """{S}走得很慢，怕看不清路。
远处的房子都看不见了。
过了{dur}，雾才慢慢地散了。
{W}差一点儿走错了路。""",
    "cloud": """{S}带了一把{color}的雨伞。
{S}担心会下雨，走得很快。
过了{dur}，太阳出来了。
还好一直没有下雨。""",
}

DOING = """
{W}{T}{act1.v}了{dur}{act1.o}，又去{act2}。
{W}先{act1}，然后{act2}。
{S}最喜欢{act1}，觉得很有意思。
{W}在{loc}{act1.v}了{dur}{act1.o}。
{S}{slow}{act1}，心里很{happy}。
{S}第一次在{place}{act1}，觉得很新鲜。
{W}{T}{act1}，玩得很{happy}。
{S}本来想{act1}，可是人太多了，就去{act2}。
{W}{act1.v}了{dur}{act1.o}，一点儿也不觉得累。
{person_seen}教{S}{act1}，{S}学得很快。
""".strip().splitlines()

DOING_TOGETHER = """
{C}喜欢{act1}，{S}更喜欢{act2}。
{C}在旁边{act1}，{S}{slow}{act2}。
{S}请{C}一起{act1}，{C}马上答应了。
{C}说：“我们去{act1}吧！”{S}马上说：“好啊！”
{S}和{C}比赛谁走得快，最后{C}赢了。
{S}问{C}：“你想{act1}还是{act2}？”{C}说：“我想{act1}。”
""".strip().splitlines()

SIGHT_ANIMAL = """
{loc}有一{animal.m}{adj_animal}{animal}，{animal_doing}。
{S}看见一{animal.m}{adj_animal}{animal}{animal_doing}。
忽然，一{animal.m}{adj_animal}{animal}跑了过来，{S}给它拍了一张照片。
{spot}有{num}{animal.m}{animal}，{S}看了{dur}。
{S}喂了一{animal.m}{adj_animal}{animal}，它好像很{happy}。
""".strip().splitlines()

SIGHT_PERSON = """
{S}看见{person_seen}在{doing_seen}。
旁边有{person_seen}在{doing_seen}，{W}看了{dur}。
{person_seen}在{spot}{doing_seen}，大家都围过来看。
{S}跟{person_seen}聊了{dur}，知道了很多有趣的事。
""".strip().splitlines()

EVENTS = [
    # a thing lost and found again
    [
        "忽然，{S}发现{lost1}不见了。/走到{spot}的时候，{S}才发现{lost1}丢了。/{S}想拿{lost1}，可是怎么也找不到。/要走的时候，{S}找不到{lost1}了。",
        "{S}非常{sad}，到处找了{dur}。/{S}{sad}得快要哭了。/{S}回到{loc}，找了{dur}也没找到。/{W}一起找了{dur}，还是没有找到。",
        "后来，{helper1}在{spot}捡到了{lost1}，还给了{S}。/最后，{S}在{spot}找到了{lost1}。/这时候，{helper1}走过来问：“这是你的{lost1}吗？”/原来{lost1}就在{spot}。",
        "{S}说：“太谢谢您了！”/{S}{happy}地笑了。/{S}这才放心了。/{S}想：以后一定要小心。",
    ],
    # an old friend
    [
        "在{spot}，{S}遇见了{N}。/{S}忽然听到有人叫自己，原来是{N}。/{S}在{loc}看见了{N}。/有个人一直看着{S}，原来是{N}。",
        "两个人已经{num}年没见面了。/{N}穿着{wear}，{S}差一点儿没认出来。/{N}刚刚搬到这里，现在是{job}。/{N}说：“好久不见！你还记得我吗？”",
        "两个人一边喝{drink}，一边聊天。/{N}请{S}吃了{dish}，还说了很多从前的事。/{S}和{N}聊了{dur}，说好{weekday}再见面。/{N}送给{S}{gift}，{S}非常{happy}。",
    ],
    # someone needs help
    [
        "{S}看见{helper1}提着很重的东西，走得很慢。/有一个小孩找不到妈妈了，在{spot}哭。/{helper1}不认识路，就来问{S}。/{S}看见{helper1}在{spot}找东西，看起来很{sad}。",
        "{S}马上走过去帮忙。/{S}问：“您需要帮忙吗？”/{W}决定帮这个忙。/{S}说：“别{sad}，我来帮你。”",
        "过了{dur}，问题终于解决了。/大家一起帮忙，很快就好了。/{S}忙了{dur}，终于帮上了忙。/{helper}也过来帮忙，事情很快就办好了。",
        "对方送给{S}{gift}，{S}心里很{happy}。/{S}觉得帮助别人真让人{happy}。/对方笑着说：“谢谢你，你真是个好人。”/大家都说{S}做得好。",
    ],
    # a present or something bought
    [
        "{S}想给{F}买一份生日礼物。/{S}在{loc}旁边的小店里看到了{gift1}。/{F}快要过生日了，{S}想买{gift1}。/{S}一直想要{gift1}。",
        "{S}挑了{dur}，最后选了{color}的。/可是太贵了，{S}有点儿{sad}。/店里的人说：“这是最后一个了。”/{S}数了数自己的钱，刚好够。",
        "{F}看到礼物，{happy}得跳了起来。/{S}把礼物放在{spot}，想给{F}一个惊喜。/{S}把它包好，写了一张{color}的卡片。/{S}还买了{buy}，{happy}地回家了。",
    ],
    # an animal needs help
    [
        "{S}听到{spot}有奇怪的声音。/一只{adj_animal}小狗一直跟着{S}。/{S}在{spot}看到一只{adj_animal}小猫，它的腿受伤了。/下午，{S}在{spot}发现了一只{adj_animal}小狗。",
        "它看起来又冷又饿。/它好像找不到家了。/它看着{S}，眼睛圆圆的。/它轻轻地叫了{num}声。",
        "{S}给它喝了一点儿牛奶，它很快就睡着了。/{S}把它抱起来，带它去看医生。/{helper}说：“这是我家的{dog1}，我找了它{dur}！”/{S}决定带它回家，叫它{dog1}。",
    ],
    # food is spoiled, food is shared
    [
        "中午，{W}在{shelter}吃{dish1}。/{S}肚子饿了，就买了{dish1}。/到了中午，{S}拿出了带来的{dish1}和{fruit1}。/{S}带了{snack1}，想和大家一起吃。",
        "{dish1}{taste}，{S}吃了{num}碗。/可是{S}不小心把{drink}洒在了衣服上。/{S}把{fruit}分给了{person_seen}。/{W}还尝了{snack2}，{taste}。",
        "吃完以后，{S}又喝了一杯{drink}。/大家都吃得很{happy}。/{S}说：“下次我还要吃{dish1}。”/{S}觉得{dish1}比{dish2}好吃。",
    ],
    # learning something
    [
        "{S}看到{person_seen1}在那里，很想学{skill1}。/{F}会{skill1}，{S}想跟{F}学。/这是{S}第一次学{skill1}。/{S}一直想学{skill1}。",
        "开始的时候，{S}总是做不好，有点儿{sad}。/{S}试了{num}次，都没有成功。/刚开始很难，可是{S}没有放弃。/{S}练了{dur}，还是不行。",
        "{F}说：“别着急，慢慢来。”/{F}说：“不要怕，再试一次。”/{F}{slow}教了{S}{num}遍。/有人告诉{S}：“只要多练习，一定能学会。”",
        "最后，{S}终于学会了{skill1}，{happy}极了。/过了{dur}，{S}终于成功了。/现在{S}{skill1}的时候已经不{sad}了。/{S}决定每天练习{dur}。",
    ],
    # late or missed
    [
        "因为路上堵车，{W}迟到了。/{S}坐错了车，多走了{dur}。/{S}起床太晚，差一点儿没赶上车。/车在半路上坏了，大家都很{sad}。",
        "{S}给{F}打了一个电话，说：“对不起，我要晚一点儿到。”/{F}等了{dur}，有点儿{sad}。/{S}跑得满头大汗。/{S}只好在{shelter}等下一班车。",
        "还好没有错过最重要的事。/最后一切都很顺利。/{F}没有生气，还给了{S}一瓶{drink}。/{S}想：明天一定要早点儿起床。",
    ],
    # a game or a contest
    [
        "{loc}正好有一场{skill1}比赛。/{S}参加了{skill1}比赛。/大家在{spot}玩一个有趣的游戏。/{person_seen}请{S}一起玩游戏。",
        "{S}有点儿{sad}，可是{F}一直给{P}加油。/{S}非常努力，头上都是汗。/对手很厉害，{S}差一点儿输了。/开始的时候{S}输了{num}次。",
        "最后，{S}得了第{rank}名，奖品是{gift}。/虽然没有赢，但是{S}玩得很{happy}。/{S}赢了，大家都为{P}鼓掌。/比赛结束以后，大家一起吃了{snack}。",
    ],
    # a story heard, a book
    [
        "{S}在{spot}坐下来，看{book1}。/{F}给{S}讲了一个关于{animal_any1}的故事。/{S}带了{book1}，一有时间就看。/{S}在{loc}看到了{book1}，马上就喜欢上了。",
        "故事里有一只{adj_animal}{animal_any1}，住在{place_any}旁边。/这本书讲的是一个{job}的故事。/书里的图画{happy_adj}，{S}看了{dur}。/{S}看得太认真，忘了时间。",
        "{S}想：我以后也要当{job}。/看完以后，{S}把书借给了{F}。/{S}把这个故事讲给了{F}听。/{S}觉得这个故事很有意思。",
    ],
    # the lights go out, it breaks
    [
        "{S}不小心把{thing1}打破了。/忽然停电了，{loc}什么也看不见。/{S}的{thing1}坏了，怎么也修不好。/{S}踩到了一个水坑，裤子都湿了。",
        "{S}觉得很{sad}，脸都红了。/大家都吓了一跳。/{S}不知道该怎么办。/{F}听到声音，马上跑了过来。",
        "{F}说：“没关系，人没事就好。”/{helper}拿来了工具，{num}分钟就修好了。/过了{dur}，灯又亮了。/{S}说了“对不起”，{F}笑了笑。",
    ],
    # plans for a celebration
    [
        "那天是{F}的生日。/晚上，大家要给{F}过生日。/{W}正在准备{F}的生日晚会。/{F}刚刚考上大学，大家都来祝贺。",
        "{S}做了{dish1}和{dish2}。/{S}送给{F}{gift1}。/桌子上有{snack1}、{fruit1}和{drink1}。/大家一起唱歌，吃{snack1}。",
        "{F}说：“这是我最{happy}的一天！”/{F}许了一个愿，吹灭了蜡烛。/{F}感动得哭了。/大家一直玩到很晚。",
    ],
]

ENDING = """
{S}觉得{happy}极了。
回家的路上，{W}买了{buy}。
晚上，{S}吃了{dish}，早早地睡了。
{S}把这件事告诉了{F2}，{F2}也很{happy}。
{S}希望{weekday}还能去{place}。
回到家，{S}把今天的事写进了日记。
{S}说：“{weekday}我们再来吧！”
这真是{happy}的一天。
天黑了，{W}{ride}回家。
{S}永远不会忘记这一天。
虽然有点儿累，但是{S}很{happy}。
{W}说好{weekday}去{place_any}{act_any}。
到家的时候，{F2}已经做好了{dish}。
晚上，{S}给{F2}打电话，说了{dur}。
{S}躺在床上，想着{place}，很快就睡着了。
{S}给{F2}看了照片，{F2}说：“真漂亮！”
临走的时候，{S}买了{gift}送给{F2}。
从那以后，{S}常常去{place}{act1}。
回家以后，{S}喝了一杯{drink}，觉得很舒服。
""".strip().splitlines()

# What a day must not mention in some weather.
_UNFIT = {"snow": ("夏天", "暑假", "春天", "秋天", "国庆节"), "cold": ("夏天", "暑假"), "hot": ("冬天", "寒假", "春天")}


@dataclass(frozen=True)
class Person:
    """Someone in a story: how they are named and the pronoun that stands for them."""

    name: str
    pronoun: str


def person(rng: random.Random, kin: float = 0.4) -> Person:
    """Draw a person; ``kin`` is the chance of a relative instead of a name."""
    male = rng.random() < 0.5
    if rng.random() < kin:
        name = rng.choice(MALE_KIN if male else FEMALE_KIN)
    else:
        name = rng.choice(MEN if male else WOMEN)
    return Person(name, "他" if male else "她")


@dataclass
class Story:
    """A finished story with what it is about, so that questions can be asked of it."""

    text: str
    facts: dict[str, str]


def _fitting_act(rng: random.Random, tags: list[str]) -> list[Word]:
    acts: list[Word] = []
    for tag in tags:
        acts += ACTS.get(tag, [])
    rng.shuffle(acts)
    return acts


def _day(rng: random.Random, tags: str) -> str:
    unfit = [word for tag in tags.split() for word in _UNFIT.get(tag, ())]
    return rng.choice([day for day in map(str, TABLES["day"]) if not any(word in day for word in unfit)])


def _filler(rng: random.Random, about: str | None) -> tuple[Filler, list[str], list[str], bool]:
    place = rng.choice([entry for entry in PLACES if about in (None, entry["text"])] or PLACES)
    tags = place["tags"].split()
    hero = Person("我", "我") if rng.random() < 0.45 else person(rng, 0.3)
    together = rng.random() < 0.6
    companion, friend, family, old_friend = person(rng), person(rng), person(rng), person(rng, 0.0)
    while len({hero.name, companion.name, friend.name, family.name, old_friend.name}) < 5:
        companion, friend, family, old_friend = person(rng), person(rng), person(rng), person(rng, 0.0)
    weather = rng.choice(WEATHER)
    acts = _fitting_act(rng, tags)
    elsewhere = rng.choice([other for other in PLACES if other is not place])
    values: dict[str, Word] = {
        "H": hero.name,
        "P": hero.pronoun,
        "C": companion.name,
        "F": companion.name if together and rng.random() < 0.5 else friend.name,
        "F2": family.name,
        "N": old_friend.name,
        "day": _day(rng, weather["tags"]),
        "place": place["text"],
        "loc": place["loc"],
        "weather": weather["text"],
        "act1": acts[0],
        "act2": acts[1 % len(acts)],
        "place_any": elsewhere["text"],
        "act_any": rng.choice(_fitting_act(rng, elsewhere["tags"].split())),
        "T": "一起" if together and rng.random() < 0.5 else "",
    }
    animals = [animal for animal in ANIMALS if set(animal["tags"].split()) & set(tags)]
    if animals:
        animal = rng.choice(animals)
        values["animal"] = animal
        values["animal_doing"] = rng.choice(animal["doing"].split(","))
    filler = Filler(rng, _TABLES, values)
    both_women = hero.pronoun != "他" and companion.pronoun == "她"
    group = "我们" if hero.name == "我" else "她们" if both_women else "他们"

    def subject() -> str:
        unclear = together and hero.pronoun == companion.pronoun
        return hero.pronoun if hero.name == "我" or rng.random() < (0.3 if unclear else 0.7) else hero.name

    def everyone() -> str:
        return group if together else hero.pronoun

    filler.resolvers = {"S": subject, "W": everyone}
    return filler, tags, weather["tags"].split(), together


_TABLES: dict[str, list[Word]] = {
    **TABLES,
    "dog": TABLES["name_dog"],
    "animal_any": [animal["text"] for animal in ANIMALS],
    "rank": ["一", "二", "三"],
    "thing": ["杯子", "花瓶", "相机", "眼镜", "闹钟", "盘子", "茶壶", "台灯", "镜子", "玩具"],
    "happy_adj": ["很漂亮", "很有趣", "很特别", "又大又清楚"],
}


def story(rng: random.Random, events: int | None = None, place: str | None = None) -> Story:
    """Tell one story; ``events`` fixes how many things happen (by default none to two), ``place`` where it happens."""
    filler, tags, weather_tags, together = _filler(rng, place)
    lines = [filler.one(OPENING_TOGETHER if together else OPENING_ALONE)]
    weather_said = str(filler.values["weather"]) in lines[0]
    if not together and "他们" in lines[0]:
        raise AssertionError("a plural pronoun without a companion")
    if filler.values["H"] == "我":
        lines[0] = lines[0].replace("他们", "我们")
    elif filler.values["P"] == "她" and "她们" not in lines[0] and "他们" in lines[0]:
        lines[0] = lines[0].replace("他们决定", "两个人决定")
    outside = "out" in tags
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
    facts["act"] = str(filler.values["act1"]["text"]) if not isinstance(filler.values["act1"], str) else ""
    facts["together"] = "yes" if together else ""
    return Story("".join(lines), facts)
