# ruff: noqa: E501  (tables and templates read better whole)
"""The checker's own English lexicon: which classes a word can belong to, written apart from the corpus's tables."""

from __future__ import annotations

from collections import defaultdict

_LISTS = {
    # names, and titles with names
    "name": """Adam Alex Alice Amy Anna Ben Bella Biscuit Buddy Clara Coco Daisy Daniel David Diana Ella Ellen Emma Eric Ethan Felix Frank
        George Grace Hannah Helen Henry Hugo Jack James Jane Julia Kate Kevin Laura Leo Lepton Lily Lucas Lucky Lucy Maria Mark Martin
        Mary Max Mia Molly Nina Noah Nora Oliver Olivia Oscar Paul Pepper Peter Robert Rose Ruby Rusty Sam Sarah Simon Snowy Sophie Spot
        Susan Teddy Tom Victor Zoe Ida Beth Joe Tim Brown Green Hill White""",
    "title": "Mr Mrs Miss cousin cousin neighbor teacher uncle aunt",
    "language": "English Chinese French",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "noun": """breakfast football set answer one play toy train monkey case family best lot stop favorite bumper parcel second cream kind friend meeting shopping weather umbrella lap stranger swim start present yoga acorn age afternoon air airplane airport alarm animal apple aquarium art artist assistant atlas attic aunt bag baker bakery ball
        balloon band bank barber barn bath beach bear bed bedroom bee bench bicycle bird birthday bit boat bone book bookshelf bookstore
        bottle bowl box boy bracelet branch bridge broom brother bubble building bunch bus bush butterfly cafe cake camera campfire
        candle car card carousel carrier cat cave center chair chess chicken child choir cinema circle classroom clinic clock cloud clown
        coat color community concert contest cook cookbook corner couple cousin cow crane cup curry dancer day deer dentist desk dessert
        detective diary dictionary dinosaur dish doctor dog dolphin door doorway dragonfly driver duck ear elephant end engineer entrance
        evening eye experiment face fairground farm farmer father feather fence film fire firefighter fish floor flower flowerpot flute
        fog foot footprint forest fountain fox frame fridge friend frisbee frog gallery game garden gardener giraffe girl glass goat grandfather
        grandmother group guard guest guide guitar gym haircut hall hamster hand harbor harmonica hat head heart hedgehog hen hill hive hole
        holiday home horse hospital hour house idea insect jacket jar job joke key kitchen kite kitten lab laboratory ladder lady lake lamp
        lane language lantern lap lawyer leaf leg letter librarian library lift light line lion list loaf machine magazine mail mall man map market
        match meadow meal minute mirror model moment moment month morning mother mouse muffin museum musician name nap necklace needle neighbor nephew nest
        newspaper niece night noise notebook novel nurse ocean office officer opera opposite orange orchard owl package page paintbrush painter
        painting pair panda parcel park parlor parrot part party passenger path patient pavilion paw peacock pen pencil penguin person phone photo
        photograph piano picnic picture pie pigeon pilot pizza place plane planet planetarium plant plate playground pocket poem pond
        pool post postcard pot present price problem pudding puddle pumpkin puppet puppy puzzle question quiz rabbit race radio raincoat
        raindrop reed reporter restaurant ring rink river road robot rock roof room rope sailor salad sandcastle sandwich scarf school schoolbag
        scientist sea seagull seahorse season seat seed shade shark shell ship shirt shoe shop shopkeeper show singer sister skater sky
        snowball snowman song sound soup sparrow spider spoon spring square squirrel stadium stage stair stamp star start station statue
        step stick stone store story stranger stream street student studio style subway success summer sunset supermarket surprise swallow swan
        sweater swimmer swing table tail tailor tale tank taxi teacher teapot team tent theater thing ticket tiger time timetable toothbrush
        tourist towel town toy train tram traveler tree trick trip trunk turtle umbrella uncle user valley vase vet village violet violin
        visitor waiter walk wall wallet watch wave way week weekend wind window wing winter wish woman word work worker world worm writer year
        zoo autumn court machine flower daisy tulip sunflower lily rose daffodil poppy cherry banana grape strawberry pear peach mango plum
        lemon potato tomato carrot cabbage egg bean berry mushroom noodle dumpling pancake chestnut peanut cookie waffle cracker chocolate
        glove boot clothes sock tool nut crumb crab cone wildflower computer meeting law sack drum laugh smile dance game sheep neck stripe""",
    "mass": """light practice foot bus train car taxi boat subway tram bicycle care chips enough clothing rest love help business badminton bamboo basketball beef bloom bread breakfast candy cheese coal coffee cold corn cotton cream dust fear food football
        fruit fun ginger grass grassland hair hay help hockey homework honey history geography ice jam joy juice kung fu lemonade
        light lunch dinner magic meat milk mint money music nature nectar news noon paint paper popcorn rain rice salad science
        snow spaghetti stew stuff sun tea tennis traffic volleyball water watermelon weather wood wool work yoga math soup today tomorrow
        yesterday tonight home school bed town luck practice watercolor chess street lunchtime success chicken fish pizza curry pudding
        pie cake pumpkin hide seek opera chocolate backstroke diving time night evening morning summer winter spring autumn clay glass rope
        tomatoes silver straw air nothing something anything everything love need fog sea""",
    "plural": """others chips mountains people children men women mice teeth feet snowmen leaves clothes glasses gloves stairs watercolors grasslands fireworks police
        fish sheep deer bubbles rings wings shelves loaves kinds thanks""",
    "adj": """living special perfect exciting clothing lentil enough ferris best little_more sun_dried afraid alone angry asleep bad bamboo beautiful big birthday black blue bored botanical brave bright brown burning calm careful cheap
        cheerful cinema clean clear clever closed cloudy cold colored comic confused cool cozy crisp curious cute dark delicious delighted
        detective difficult dirty disappointed dry early easy embarrassed empty excited expensive fair fairy far fast fat favorite few fine
        first foggy free freezing fresh fried friendly full funny gentle glad golden good grateful gray great green grilled half happy hard
        heavy helpful high hot hungry hurt iced interesting kind large last late lazy left light little lively lonely long loud lovely low lucky magic
        many mashed more much narrow near nervous new next nice nice nursing old only open orange other own pink playful pleased polite
        possible proud purple quiet ready real red right roast roasted rubber rich sad safe salty same scrambled second sharp short shy
        sick silver simple singing shining sleepy slow small smooth soft some sorry sour spicy spotted strange straw street strong sunny sure sweet
        swimming tall tasty teddy thank-you thick thin third thirsty tiny tired true upset vegetable warm warmer weak welcome wet white whole windy wonderful
        wooden wool worried wrong yellow young baked colored lost broken bumper alarm tea police ice music picture table covered nearby
        inside outside surprised travel singing spelling cooking drawing dancing running pet gone better fountain proud hidden famous
        ripe loved eighteen twenty thirty forty fifty sixty heavy hand""",
    "adv": """at_all earlier all for_a_while a_while from_then_on from_that_day_on long_ago than_ever as_well enough best a_lot a_little again ago almost alone along already also always around at_last at_once at_first at_home away back backwards before besides better carefully calmly
        down early else ever everywhere far fast finally first forever gently gladly happily hard here home however inside just late later loudly luckily
        most near nearby never now often once one_day only out outside over patiently perhaps quickly quietly really slowly so_long softly
        sometimes somewhere soon still straight suddenly then there today together tomorrow tonight too upon well yesterday yet together
        high low right left up in on off through outside again_and_again all_the_time any_more at_the_start in_the_end as_well that_day then
        more less far_away soon_after at_night instead far_away much close by as_fast_as_possible""",
    "intens": "a_little a_bit very more so too quite really rather almost",
    "prep": """about above across after along around at before behind below beside between by down during for from in inside into like near next_to of
        off on onto out_of outside over past since through to toward towards under until up upon with without because_of far_from
        from_tree_to_tree than as""",
    "det1": "a_little a an another every each this that one half",
    "det": "a_little_more the my your his her its our their some any no which what whose all",
    "detp": "a_dozen a_few many few all some these those both two three four five six seven eight nine ten twenty several dozen other most",
    "num": "plus minus zero one two three four five six seven eight nine ten twenty eighteen thirty forty fifty sixty",
    "he": "he she it somebody someone everybody everyone nobody everything nothing something this that which who",
    "they": "we they you both who we_all they_all",
    "i": "I",
    "obj": """me you him her it us them somebody someone everybody everyone nobody nothing something anything everything myself yourself himself
        herself itself ourselves themselves each_other others another that_person one""",
    "and": "and or but nor",
    "so": "so because when while until that if where as before after since although who how why what than though",
    "to": "to",
    "not": "not never",
    "modal": "can could will would should must may might cannot can't couldn't won't shouldn't",
    "was": "was isn't wasn't",
    "were": "were weren't",
    "is": "is",
    "are": "are",
    "am": "am",
    "had": "had",
    "has": "has",
    "have": "have",
    "did": "did didn't",
    "do": "do don't",
    "does": "does doesn't",
    "there": "there",
    "wh": "what where when who whom why how which",
    "lets": "let's",
    "please": "please",
    "neither": "neither",
    "thanks": "thank_you",
}

# base, past, participle; a base alone is regular
_VERBS = """admire;answer;arrive;ask;bake;be was been;become became become;begin began begun;blow blew blown;borrow;break broke broken
breathe;bring brought brought;brush;build built built;burn;buy bought bought;call;care;carry;catch caught caught;celebrate;chase;chat
cheer;chew;choose chose chosen;clap;clean;climb;close;collect;come came come;compare;cook;copy;cost cost cost;count;cover;cry;cut cut cut
dance;decide;design;dig dug dug;do did done;draw drew drawn;dream;drink drank drunk;drive drove driven;drop;dry;eat ate eaten;enjoy
explain;explore;fall fell fallen;feed fed fed;feel felt felt;find found found;finish;fish;flow;fly flew flown;fold;follow;forget forgot forgotten
get got got;give gave given;go went gone;grow grew grown;guard;happen;have had had;hear heard heard;help;hide hid hidden;hold held held
hope;hug;invite;iron;jog;juggle;jump;keep kept kept;knit;knock;know knew known;land;last;laugh;lay laid laid;lead led led;learn;leave left left
lend lent lent;lick;lie lay lain;light lit lit;like;listen;live;look;lose lost lost;love;make made made;matter;mean meant meant;meet met met;melt
mend;milk;miss;move;need;notice;offer;open;pack;paint;pass;pat;pet;phone;photograph;pick;plan;plant;play;pour;practice;prepare;promise;protect;pull
push;put put put;race;rain;read read read;remember;repair;rest;return;ride rode ridden;roll;row;run ran run;save;say said said;search;see saw seen
seem;sell sold sold;send sent sent;sew;shake shook shaken;share;shine shone shone;shop;show showed shown;sing sang sung;sit sat sat
skate;skip;sleep slept slept;smell;smile;snow;solve;sound;speak spoke spoken;spend spent spent;spill;spread spread spread;stand stood stood
start;stay;steal stole stolen;step;stop;stroke;study;sweep swept swept;swim swam swum;take took taken;talk;taste;teach taught taught;tell told told
thank;think thought thought;throw threw thrown;tidy;touch;travel;try;turn;understand understood understood;use;visit;wag;wait;wake woke woken;walk;want
warm;wash;watch;water;wear wore worn;welcome;win won won;wish;wonder;work;worry;wrap;write wrote written;look;hurry;appear;belong;check;hang hung hung;hit hit hit
join;serve;raise;lift;add;fix;ring rang rung;rise rose risen;set set set;agree;bark;clear;greet;hike;kick;order;point;relax;sail;shout;sneeze;swing swung swung"""

_DOUBLED = frozenset(
    [
        "beg",
        "chat",
        "clap",
        "cut",
        "dig",
        "drop",
        "get",
        "hit",
        "hug",
        "jog",
        "pat",
        "pet",
        "plan",
        "put",
        "run",
        "set",
        "shop",
        "sit",
        "skip",
        "step",
        "stop",
        "swim",
        "wag",
        "win",
        "wrap",
        "begin",
        "spin",
        "knit",
    ]
)


def _ending(base: str, suffix: str) -> str:
    if base in _DOUBLED:
        return base + base[-1] + suffix
    if base.endswith("e") and not base.endswith("ee"):
        return ("ly" if base in ("lie",) and suffix == "ing" else base[:-1]) + suffix
    if suffix == "ed" and base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    return base + suffix


def third(base: str) -> str:
    """Return the third person singular (also a regular noun's plural)."""
    if base.endswith(("s", "sh", "ch", "x", "z")) or base in ("go", "do", "potato", "tomato", "mango"):
        return base + "es"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ies"
    return base + "s"


_IRREGULAR_PLURALS = {"leaf": "leaves", "child": "children", "man": "men", "woman": "women", "mouse": "mice", "snowman": "snowmen",
    "loaf": "loaves", "foot": "feet", "scarf": "scarves", "deer": "deer", "sheep": "sheep", "fish": "fish"}  # fmt: skip


def build() -> dict[str, frozenset[str]]:
    """Return every known word (lower case; ``I`` and names keep theirs) with its classes."""
    classes: dict[str, set[str]] = defaultdict(set)
    for kind, text in _LISTS.items():
        for word in text.split():
            classes[word.replace("_", " ")].add(kind)
    for noun in _LISTS["noun"].split():
        classes[_IRREGULAR_PLURALS.get(noun, third(noun))].add("plural")
    for entry in _VERBS.replace("\n", ";").split(";"):
        parts = entry.split()
        base = parts[0]
        if base == "be":
            classes["been"].add("en")
            classes["being"].add("ing")
            classes["be"].add("be")
            continue
        past, participle = parts[1:] if len(parts) == 3 else (_ending(base, "ed"),) * 2
        third_form = "has" if base == "have" else third(base)
        for word, kind in (
            (base, "base"),
            (past, "past"),
            (participle, "en"),
            (_ending(base, "ing"), "ing"),
            (third_form, "z"),
        ):
            classes[word].add(kind)
    return {word: frozenset(kinds) for word, kinds in classes.items()}
