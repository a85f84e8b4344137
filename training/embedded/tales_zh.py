"""More kinds of Chinese text: tales of animals, portraits of people, days at home."""

from __future__ import annotations

import random

from training.embedded.facts_zh import JOBS
from training.embedded.grammar import Filler, Word
from training.embedded.stories_zh import person
from training.embedded.words_zh import ACTS, PLACES, TABLES, WEATHER

_TABLES: dict[str, list[Word]] = {
    **TABLES,
    "beast": [
        "小兔子",
        "小狐狸",
        "小熊",
        "小松鼠",
        "小老鼠",
        "小刺猬",
        "小鸭子",
        "小猴子",
        "小羊",
        "小象",
        "小猫",
        "小青蛙",
    ],
    "trait": ["聪明", "勇敢", "善良", "胆小", "调皮", "懒惰", "爱笑", "热心", "害羞", "好奇"],
    "good": ["聪明", "勇敢", "善良", "热心", "可爱", "好"],
    "wild": ["森林里", "山洞里", "小河边", "大树下", "草地上", "山坡上", "湖边", "竹林里"],
    "treasure": [
        "一颗发光的石头",
        "一把金色的钥匙",
        "一张旧地图",
        "一朵会唱歌的花",
        "一个空盒子",
        "一面小镜子",
        "一根羽毛",
        "一本魔法书",
        "一盏小灯",
    ],
    "weathers": [entry["text"] for entry in WEATHER],
    "chore": ["扫地", "洗衣服", "擦窗户", "浇花", "做饭", "洗碗", "整理书架", "铺床", "倒垃圾", "修椅子"],
    "hobby": [act for tag in ("park", "study", "sport", "club", "water") for act in ACTS[tag]],
    "place": [place["text"] for place in PLACES],
}

TALE = [
    "从前，{wild1}住着一只{trait}的{beast1}。/很久以前，有一只{trait}的{beast1}，住在{wild1}。/{wild1}有一只{beast1}，它非常{trait}。/从前有一只{beast1}，大家都说它很{trait}。",
    "有一天，{weathers}，{beast1}出门去找{fruit1}。/一天早上，{beast1}在{wild2}发现了{treasure1}。/它最好的朋友是一只{trait}的{beast2}。/它每天都在{wild2}找吃的，可是从来不分给别人。",
    "路上，它遇见了一只{trait}的{beast2}。/这时候，{beast2}跑过来，说：“请帮帮我！”/{beast2}看见了，说：“我们是朋友，应该一起分享。”/忽然刮起了大风，{beast2}掉进了水里。",
    "{beast1}想了{dur}，终于想出了一个好办法。/{beast1}有点儿{sad}，可是它没有逃走。/{beast1}马上跑去叫来了{num}个朋友。/{beast1}拿出了{treasure2}，送给了{beast2}。",
    "大家一起努力，天黑以前就成功了。/{beast2}非常{happy}，请{beast1}吃{snack}。/它们一起回到{wild1}，吃了很多{fruit}。/{beast2}说：“谢谢你，你真{good}！”",
    "从那以后，它们成了好朋友。/从此，{beast1}再也不{sad}了。/那天晚上，星星特别亮，它们都睡得很香。/{beast1}明白了：帮助别人，自己也会{happy}。/后来，大家都喜欢跟{beast1}一起玩。",
]

PORTRAIT = [
    "{H}是一名{job1}，在{jobplace}工作。/{H}今年{age}岁，是一个{trait1}的人。/{H}住在{place1}旁边，是一名{job1}。/我认识{H}已经{num}年了。",
    "{P}每天早上{early}起床，然后{ride}去上班。/{P}的工作是{jobdoes}。/{P}最喜欢的季节是{season}。/{P}家里有一只{adj_animal}小狗，叫{name_dog1}。",
    "{P}最喜欢{hobby1}，周末常常去{place2}。/有空的时候，{P}喜欢{hobby1}和{hobby2}。/{P}会{skill1}，还想学{skill2}。/{P}的房间里有很多书，还有{gift1}。",
    "{P}最爱吃{dish1}，也喜欢{fruit1}。/{P}喜欢穿{color1}的衣服。/{P}不太喜欢{dish1}，觉得{dish2}更好吃。/每天晚上，{P}都要喝一杯{drink1}。",
    "上个星期，{P}和{F}去了{place1}，觉得很{happy}。/{P}和{F}是好朋友，常常一起{hobby2}。/{P}说：“我希望以后能去很多地方。”/{F}说{P}是一个很{trait}的人。",
    "大家都很喜欢{P}。/我希望{weekday}能见到{P}。/{P}总是说：“慢慢来，不着急。”/跟{P}在一起，我总是很{happy}。",
]

HOME = [
    "{day}{weathers}，{H}没有出门。/{day}，{H}在家里{chore1}。/{day}是{H}的休息日。/{day}{H}醒来的时候，{weathers}。",
    "{P}先{chore1}，再{chore2}。/早饭{P}吃了{dish1}，喝了一杯{drink1}。/{P}坐在{room1}里看{book1}。/{P}一边听音乐，一边{chore1}。",
    "{F}打来电话，说要来{P}家。/{F}在{room}里{chore2}，忙了{dur}。/有人敲门，原来是{F}。/{P}在{room}里找到了{gift1}，想起了{F}。",
    "两个人一起做了{dish2}，{dish2}{taste}。/{F}带来了{gift2}和一些{snack1}。/他们坐在{room}里，聊了{dur}。/{F}教{P}{skill1}，{P}觉得很有意思。",
    "到了晚上，{P}觉得很{happy}。/晚上，{P}写了日记，然后睡觉了。/{P}想：{weekday}要去{place1}看看。/睡觉以前，{P}又看了一会儿{book2}。",
]


BEASTS = [str(beast) for beast in _TABLES["beast"]]


def tale(rng: random.Random, beast: str | None = None) -> str:
    """Tell one tale, portrait or day at home; with ``beast`` a tale of that animal."""
    kind = TALE if beast else rng.choice([TALE, TALE, PORTRAIT, HOME])
    hero, friend = person(rng, 0.3), person(rng, 0.3)
    while friend.name == hero.name:
        friend = person(rng, 0.3)
    job, where, does = rng.choice(JOBS)
    mine = kind is HOME and rng.random() < 0.4
    values: dict[str, Word] = {
        "H": "我" if mine else hero.name,
        "P": "我" if mine else hero.pronoun,
        "F": friend.name,
        "job1": job,
        "jobplace": where,
        "jobdoes": does,
        "age": rng.choice(["十八", "二十", "二十五", "三十", "三十六", "四十", "五十", "六十"]),
        "early": rng.choice(["五点", "六点", "六点半", "七点", "七点半", "八点"]),
    }
    if beast:
        values["beast1"] = beast
    filler = Filler(rng, _TABLES, values)
    text = "".join(filler.one(beat.split("/")) for beat in kind)
    both_women = friend.pronoun == "她" and hero.pronoun == "她"
    return text.replace("他们", "我们" if mine else "她们" if both_women else "他们")
