# ruff: noqa: E501  (tables and templates read better whole)
"""The Chinese word tables of the corpus: people, places, weather, things, feelings."""

from __future__ import annotations

from training.embedded.grammar import Word, words

MEN = words("""小明,小强,小刚,小军,大伟,阿杰,李伟,王磊,张勇,刘洋,陈浩,周涛,赵鹏,孙博,志远,子轩,家豪,文杰,明辉,建国,
    天宇,浩然,阿龙,小宝,高峰,林涛,马超,宋凯,郑宇,何平""")
WOMEN = words("""小红,小丽,小芳,小雨,小雪,阿梅,李娜,王芳,张敏,刘静,陈晨,周洁,赵燕,孙悦,思琪,雨欣,佳怡,诗涵,晓兰,秀英,
    美玲,欣然,阿云,小美,高洁,林丹,马丽,宋佳,郑爽,何静""")
MALE_KIN = words("爸爸,爷爷,外公,哥哥,弟弟,叔叔,舅舅,表哥,堂弟,姑父")
FEMALE_KIN = words("妈妈,奶奶,外婆,姐姐,妹妹,阿姨,舅妈,表妹,堂姐,姑姑")

# place, what follows it in "在…", tags
_PLACES = """
公园|里|out park;海边||out water;山上||out hill;湖边||out water;河边||out water;森林|里|out hill;草原|上|out hill
果园|里|out farm;农场|里|out farm farmanimal;菜园|里|out farm;村子|里|out farm;广场|上|out park;操场|上|out sport
动物园|里|out zoo;植物园|里|out park;游乐场|里|out fun;码头||out water;老街|上|out street;夜市|上|out eat street
图书馆|里|in study;博物馆|里|in show;美术馆|里|in show;科技馆|里|in show;水族馆|里|in aqua;天文馆|里|in show
书店|里|in study shop;学校|里|in study;教室|里|in study;超市|里|in shop;商场|里|in shop;花店|里|in shop;玩具店|里|in shop
服装店|里|in shop;文具店|里|in shop;菜市场|里|in shop;面包店|里|in eat;咖啡馆|里|in eat;茶馆|里|in eat;饺子馆|里|in eat
面馆|里|in eat;火锅店|里|in eat;冰淇淋店|里|in eat;电影院|里|in stage;剧院|里|in stage;音乐厅|里|in stage
体育馆|里|in sport;游泳馆|里|in swim;滑冰场|里|in ice;健身房|里|in sport;火车站||in trip;飞机场||in trip;汽车站||in trip
医院|里|in help;养老院|里|in help;宠物店|里|in pet;邮局|里|in post;理发店|里|in hair;社区中心|里|in club;少年宫|里|in club
"""


def _places() -> list[dict[str, str]]:
    entries = [entry.strip().split("|") for entry in _PLACES.replace("\n", ";").split(";") if entry.strip()]
    return [{"text": name, "loc": name + suffix, "tags": tags} for name, suffix, tags in entries]


PLACES = _places()

# verb|object pairs by the tag of the place where they are done
_ACTS = {
    "out": "散|步,拍|照片,看|风景,晒|太阳,聊|天,唱|歌,画|画,听|音乐",
    "park": "放|风筝,跑|步,打|羽毛球,踢|毽子,跳|绳,下|象棋,打|太极拳,荡|秋千,喂|鸽子,骑|自行车,玩|飞盘,捉|迷藏,看|花,滑|滑板,吹|泡泡",
    "water": "钓|鱼,划|船,捡|贝壳,堆|沙堡,看|日落,吹|风,捉|小螃蟹,看|帆船,捡|石头,看|水鸟,游|泳",
    "hill": "爬|山,采|蘑菇,摘|野果,看|日出,听|鸟叫,搭|帐篷,采|野花,认|植物,看|星星,找|松果,骑|马",
    "farm": "摘|苹果,摘|草莓,摘|葡萄,拔|萝卜,挖|土豆,种|白菜,喂|小鸡,喂|兔子,收|玉米,浇|花,摘|橘子,挖|红薯",
    "zoo": "看|猴子,看|大象,看|熊猫,看|长颈鹿,看|老虎,看|孔雀,喂|小鹿,看|企鹅,看|斑马,看|狮子",
    "fun": "坐|过山车,坐|摩天轮,玩|旋转木马,开|碰碰车,玩|滑梯,套|圈,荡|秋千,看|表演",
    "street": "逛|小店,吃|小吃,看|灯笼,买|糖葫芦,看|皮影戏,拍|老房子,猜|灯谜",
    "study": "看|书,写|作业,查|资料,复习|功课,背|单词,写|日记,读|小说,做|笔记,看|画册,读|诗",
    "show": "看|展览,看|油画,听|讲解,看|古代陶器,做|实验,看|恐龙化石,看|机器人,看|雕塑,画|素描,看|青铜器",
    "aqua": "看|海豚,看|鲨鱼,看|水母,看|海龟,看|热带鱼,喂|小鱼,看|海狮表演",
    "shop": "挑|礼物,买|东西,看|新商品,选|贺卡,比|价格,逛|街",
    "eat": "喝|茶,喝|咖啡,吃|点心,聊|天,尝|新口味,等|朋友,吃|饭",
    "stage": "看|电影,听|音乐会,看|话剧,看|舞蹈,听|京剧,看|木偶戏,听|合唱,看|魔术表演",
    "sport": "打|篮球,打|乒乓球,练|武术,打|排球,踢|足球,跳|舞,做|体操,打|网球,跑|步,练|瑜伽",
    "swim": "游|泳,学|潜水,打|水仗,练|蛙泳,练|仰泳",
    "ice": "滑|冰,打|冰球,学|转圈,看|花样滑冰",
    "trip": "等|车,接|客人,送|朋友,看|时刻表,排|队,看|地图",
    "help": "看|病人,送|鲜花,帮|忙,讲|故事,包|饺子,陪|老人",
    "pet": "看|小狗,喂|仓鼠,选|鱼缸,逗|小猫,看|鹦鹉,买|猫粮",
    "post": "寄|信,寄|包裹,买|邮票,写|明信片,取|包裹",
    "hair": "剪|头发,等|朋友,看|杂志,洗|头发",
    "club": "学|书法,学|剪纸,弹|钢琴,拉|小提琴,学|陶艺,练|合唱,学|下棋,吹|笛子,学|围棋,做|手工",
}


def pair(verb: str, obj: str) -> dict[str, str]:
    """Return the forms of a verb with its object: ``text`` 放风筝, ``v`` 放, ``o`` 风筝."""
    return {"text": verb + obj, "v": verb, "o": obj}


ACTS = {tag: [pair(*entry.split("|")) for entry in words(text)] for tag, text in _ACTS.items()}

# animal, measure word, places' tags, what it does
_ANIMALS = """
小猫|只|park street farm post club|在墙角睡觉,在追自己的尾巴,在舔爪子,在看一片落叶
小狗|只|park street farm water hill sport|在草地上打滚,在追皮球,在摇尾巴,在啃骨头
松鼠|只|park hill|在树上跳来跳去,在吃松子,抱着一颗坚果
鸽子|只|park street|在啄面包屑,飞来飞去,站在屋顶上
鸭子|只|water park farm|在水里游来游去,在岸边散步,在找小虫子
天鹅|只|water park|在水面上慢慢地游,张开了翅膀,在整理羽毛
兔子|只|park hill farm|在吃青草,竖着耳朵,躲在草丛里
乌龟|只|water park|在石头上晒太阳,慢慢地爬,把头缩进了壳里
蝴蝶|只|park hill farm|在花丛里飞舞,停在一朵花上,飞得很慢
麻雀|只|park street farm sport|在树枝上叫,在地上找吃的,忽然飞走了
燕子|只|farm street water|从屋檐下飞过,在天上飞来飞去,在筑巢
青蛙|只|water farm|蹲在荷叶上,在呱呱地叫,跳进了水里
蜻蜓|只|water park farm|停在荷花上,飞得很低,在水面上点水
小鱼|条|water|在水里吐泡泡,在水草里游来游去,跳出了水面
白马|匹|hill farm|在山坡上吃草,在慢慢地跑,低着头喝水
黄牛|头|farm hill|在田里吃草,在树下休息,甩着尾巴
山羊|只|farm hill|在石头上跳,在吃树叶,咩咩地叫
小鸡|只|farm|跟着母鸡跑,在找虫子吃,在叽叽地叫
刺猬|只|park hill|缩成了一个球,背着一片树叶,在草丛里慢慢地走
喜鹊|只|park hill street|在树顶上叫,叼着一根树枝,在树上筑巢
"""


def _animals() -> list[dict[str, str]]:
    rows = [line.split("|") for line in _ANIMALS.strip().splitlines()]
    return [{"text": name, "m": measure, "tags": tags, "doing": doing} for name, measure, tags, doing in rows]


ANIMALS = _animals()

# weather as a clause, tags
_WEATHER = """
天气很晴朗|sun;阳光很暖和|sun;天空蓝蓝的|sun;太阳高高地挂着|sun hot;天上没有一朵云|sun;阳光明媚|sun
天气特别热|hot;太阳晒得人冒汗|hot sun;空气又闷又热|hot;下着小雨|rain;下着大雨|rain;细雨轻轻地飘着|rain;雨下个不停|rain
刚刚下过一场雨|wet;地上到处是水坑|wet;刮着大风|wind;风很大|wind;微风轻轻地吹着|breeze;凉风吹得很舒服|breeze
天气有点儿冷|cold;北风吹得人发抖|cold wind;天气冷极了|cold;下着大雪|snow cold;雪花慢慢地飘下来|snow cold
地上铺着厚厚的雪|snow cold;起了大雾|fog;雾气白茫茫的|fog;天空阴沉沉的|cloud;云很厚|cloud;天上飘着几朵白云|sun breeze
空气很新鲜|sun breeze;天气不冷也不热|breeze
"""


def _weather() -> list[dict[str, str]]:
    entries = [entry.strip().split("|") for entry in _WEATHER.replace("\n", ";").split(";") if entry.strip()]
    return [{"text": text, "tags": tags} for text, tags in entries]


WEATHER = _weather()

TABLES: dict[str, list[Word]] = {
    "day": list(
        words("""今天,昨天,前天,今天早上,今天上午,今天下午,今天中午,昨天早上,昨天上午,昨天下午,星期六,星期天,星期六上午,星期天下午,
        上个周末,放假的第一天,生日那天,国庆节那天,春天的一个早上,夏天的一个下午,秋天的一个上午,冬天的一个下午,上个月,暑假里的一天,寒假里的一天,周末""")
    ),
    "dur": list(words("一会儿,半个小时,一个小时,两个小时,一个上午,一个下午,好久,二十分钟,四十分钟,很长时间")),
    "ride": list(words("坐公交车,坐地铁,骑自行车,走路,坐出租车,坐火车,开车,骑电动车,坐船,坐大巴")),
    "happy": list(words("高兴,开心,快乐,兴奋,激动,幸福,愉快")),
    "sad": list(words("难过,着急,失望,担心,害怕,紧张,伤心,生气,委屈,烦恼")),
    "adj_animal": list(words("可爱的,漂亮的,胖乎乎的,白色的,黑色的,灰色的,棕色的,小小的,调皮的,安静的,胆小的,活泼的")),
    "color": list(words("红色,蓝色,黄色,绿色,白色,黑色,紫色,粉色,橙色,灰色,棕色")),
    "fruit": list(words("苹果,香蕉,橘子,葡萄,西瓜,草莓,梨,桃子,樱桃,芒果,菠萝,柚子")),
    "dish": list(
        words("""饺子,面条,炒饭,包子,馄饨,烤鸭,红烧肉,番茄炒蛋,鱼香肉丝,麻婆豆腐,清蒸鱼,排骨汤,鸡汤,炒青菜,糖醋排骨,土豆丝,
        火锅,米粉,春卷,凉面,烤鱼,咖喱饭,豆腐汤,南瓜粥""")
    ),
    "snack": list(
        words("蛋糕,饼干,冰淇淋,糖葫芦,爆米花,巧克力,薯片,月饼,汤圆,豆沙包,蛋挞,瓜子,花生,烤红薯,绿豆糕,布丁")
    ),
    "drink": list(words("热茶,绿茶,豆浆,牛奶,果汁,柠檬水,热巧克力,酸奶,酸梅汤,咖啡,椰子汁,奶茶")),
    "cool": list(words("冰淇淋,冰西瓜,柠檬水,酸梅汤,冰棍,冰果汁,凉面,绿豆汤")),
    "warm": list(words("热茶,热巧克力,姜汤,热牛奶,鸡汤,热豆浆,烤红薯,馄饨")),
    "taste": list(words("很甜,很香,特别好吃,又香又脆,又酸又甜,非常新鲜,有点儿辣,很软,味道好极了,清淡可口")),
    "lost": list(words("""钱包,手机,钥匙,帽子,眼镜,书包,手表,雨伞,相机,围巾,学生证,水壶,公交卡,耳机,笔记本,手套""")),
    "spot": list(
        words(
            """长椅下面,大树后面,门口,楼梯旁边,窗台上,桌子底下,草丛里,路边,角落里,柜台上,座位旁边,台阶上,墙边,花盆后面"""
        )
    ),
    "helper": list(
        words("""一位老爷爷,一位老奶奶,一个小男孩,一个小女孩,一位警察,一位保安,一位司机,一个年轻人,一位清洁工,一位热心的阿姨,一位叔叔,
        一个高个子学生,一位服务员,一位邮递员""")
    ),
    "gift": list(
        words("""一本故事书,一条围巾,一束鲜花,一个音乐盒,一盒巧克力,一个陶瓷杯,一幅画,一支钢笔,一只玩具熊,一盆小花,一副手套,一个相框,
        一张贺卡,一条项链,一顶帽子,一把吉他,一个篮球,一盏台灯,一个风筝,一套茶具""")
    ),
    "buy": list(
        words("""一斤苹果,一袋大米,两瓶牛奶,一把青菜,三个西红柿,一条鱼,一盒鸡蛋,一件毛衣,一双运动鞋,一本词典,一支毛笔,一束百合花,
        一个书包,两张电影票,一包茶叶,一条裤子,一个蛋糕,一盒彩笔,一顶草帽,一个闹钟,一把雨伞,一袋花生,半个西瓜,一瓶酱油""")
    ),
    "wear": list(words("厚厚的外套,红色的毛衣,羽绒服,棉大衣,长围巾,毛线帽,厚厚的手套,灰色的大衣,长袖衬衫,旧夹克")),
    "shelter": list(words("屋檐下,大树下,亭子里,车站里,小店门口,桥下,书店里,走廊里")),
    "skill": list(
        words("""骑自行车,游泳,包饺子,下象棋,弹钢琴,弹吉他,写毛笔字,做蛋糕,滑冰,打乒乓球,画水彩画,折纸飞机,做风筝,打太极拳,唱京剧,
        打毛衣,拍照片,种花,打字,跳舞,吹口琴,做面条,打羽毛球,踢足球""")
    ),
    "person_seen": list(
        words(
            """一位老爷爷,一位老奶奶,一个小男孩,一个小女孩,一位画家,几个年轻人,几个孩子,一位老师,一对夫妻,一群学生,一位音乐家,一个外国游客"""
        )
    ),
    "doing_seen": list(
        words("""拉小提琴,画画,下棋,打太极拳,卖气球,遛狗,吹口琴,跳广场舞,拍照,看报纸,喂鸽子,吹泡泡,做操,唱歌,变魔术,弹吉他,
        写毛笔字,捏泥人,放风筝,打电话,讲笑话,背诗""")
    ),
    "name_dog": list(words("豆豆,毛毛,球球,旺财,小白,小黑,花花,多多,团团,乐乐,点点,皮皮")),
    "job": list(words("医生,老师,司机,厨师,画家,护士,警察,工程师,记者,歌手,农民,科学家,消防员,作家,律师,飞行员")),
    "subject": list(words("数学,语文,英语,历史,地理,音乐,美术,体育,科学,物理,化学")),
    "season": list(words("春天,夏天,秋天,冬天")),
    "num": list(words("两,三,四,五,六,七,八,九,十")),
    "bloom": list(words("玫瑰,菊花,荷花,桃花,樱花,牡丹,百合,兰花,向日葵,茉莉花,郁金香,梅花")),
    "slow": list(words("慢慢地,轻轻地,悄悄地,静静地,高兴地,认真地,仔细地,小心地,耐心地")),
    "book": list(
        words("""一本小说,一本童话书,一本历史书,一本漫画,一本诗集,一本科学书,一本菜谱,一本地图册,一本日记,一本关于海洋的书,一本关于恐龙的书,
        一本关于星星的书,一本旅行杂志""")
    ),
    "room": list(words("客厅,厨房,阳台,卧室,书房,院子")),
    "weekday": list(words("明天,后天,下个星期,下个周末,下个月,星期三,星期五,下次放假")),
}
