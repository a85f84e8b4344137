"""The prompts of the evaluation: openings, questions, and combinations that training never saw."""

from __future__ import annotations

from dataclasses import dataclass

OPENINGS = {
    "zh": [
        "我今天去了公园",
        "昨天下午，",
        "小明",
        "从前，",
        "今天天气很好，",
        "星期天，我和妈妈",
        "我的姐姐",
        "下雨了，",
        "有一天，小兔子",
        "李娜是一名",
        "上个周末我们",
        "晚上，",
    ],
    "en": [
        "I went to the park today",
        "Yesterday, my sister",
        "Once upon a time",
        "It was raining",
        "Last weekend, Tom and",
        "On Monday, I",
        "Anna is a",
        "One day, a little",
        "My grandfather",
        "In the evening,",
        "The cat",
        "When I woke up",
    ],
}
CHAT_QUESTIONS = {
    "zh": [
        "你好！",
        "你叫什么名字？",
        "人们在图书馆做什么？",
        "给我讲一个关于海边的故事。",
        "我今天很累，怎么办？",
        "下雨的时候可以做什么？",
        "熊猫吃什么？",
        "请讲一个小狐狸的故事。",
        "我想买一把雨伞，去哪里买？",
        "医生在哪里工作？",
        "今天晚上吃什么好？",
        "周末去哪里玩好？",
    ],
    "en": [
        "Hello!",
        "What is your name?",
        "What do people do in a library?",
        "Tell me a story about the beach.",
        "I am tired. What should I do?",
        "What can we do when it rains?",
        "What do pandas eat?",
        "Tell me a story about a fox.",
        "Where can I buy an umbrella?",
        "Where does a doctor work?",
        "What should I eat tonight?",
        "Where should I go this weekend?",
    ],
}


@dataclass(frozen=True)
class Unseen:
    """A prompt that combines a person and a place which no training document has together; ``chat`` for a question."""

    language: str
    person: str
    place: str
    prompt: str
    chat: bool = False


UNSEEN = [
    Unseen("zh", "赵鹏", "音乐厅", "昨天晚上，赵鹏去了音乐厅"),
    Unseen("zh", "家豪", "图书馆", "星期六上午，家豪和妹妹去了图书馆"),
    Unseen("zh", "姑父", "动物园", "姑父今天去了动物园，"),
    Unseen("zh", "外婆", "图书馆", "因为下着小雨，我和外婆去了图书馆"),
    Unseen("zh", "爸爸", "滑冰场", "冬天的一个下午，爸爸带我去了滑冰场"),
    Unseen("zh", "小明", "植物园", "小明上个周末去了植物园，微风轻轻地吹着。"),
    Unseen("zh", "小丽", "玩具店", "小丽昨天去了玩具店。她是坐地铁去的。小丽是怎么去的？", True),
    Unseen("zh", "哥哥", "草原", "昨天，哥哥去了草原。他是和小雪一起去的。哥哥和谁一起去的？", True),
    Unseen("zh", "王芳", "学校", "今天下午，王芳去了学校。那天刮着大风。她在那里读诗。那天天气怎么样？", True),
    Unseen("zh", "刘洋", "码头", "我今天上午和刘洋去了码头。", True),
    Unseen("en", "Lucas", "river", "Last Sunday, Lucas walked to the river"),
    Unseen("en", "Zoe", "library", "It was raining, so Zoe and my uncle went to the library"),
    Unseen("en", "my mother", "hospital", "My mother went to the hospital on Friday because"),
    Unseen("en", "Henry", "zoo", "Henry went to the zoo with Nina last month."),
    Unseen("en", "Susan", "park", "One spring morning, Susan was alone in the park."),
    Unseen(
        "en", "my grandfather", "post office", "My grandfather wanted to send a letter, so he went to the post office"
    ),
    Unseen(
        "en",
        "Jack",
        "tea house",
        "Jack went to the tea house yesterday. He went there by tram. How did Jack go there?",
        True,
    ),
    Unseen("en", "Ellen", "lake", "This morning, Ellen went to the lake. Felix came along. Who went with Ellen?", True),
    Unseen(
        "en",
        "George",
        "village",
        "George went to the village last week. He bought a jar of honey. What did George buy?",
        True,
    ),
    Unseen("en", "Simon", "stadium", "I went to the stadium with Simon last weekend.", True),
]
