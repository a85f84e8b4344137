# ruff: noqa: E501  (tables and templates read better whole)
"""The English word tables of the corpus: people, places, weather, things, feelings."""

from __future__ import annotations

from training.embedded.grammar import Word, words

MEN = words("""Tom,Jack,Sam,Ben,Peter,David,Leo,Max,Oliver,Henry,Daniel,Mark,Paul,George,Adam,Lucas,Felix,Simon,Frank,Eric,
    Hugo,Oscar,Victor,Martin,Alex,Robert,James,Kevin,Noah,Ethan""")
WOMEN = words("""Anna,Lily,Emma,Lucy,Mary,Sarah,Julia,Clara,Sophie,Alice,Grace,Nina,Helen,Rose,Kate,Laura,Maria,Olivia,Ruby,
    Ella,Amy,Mia,Zoe,Diana,Ellen,Jane,Susan,Hannah,Molly,Nora""")
MALE_KIN = words("father,grandfather,brother,uncle,cousin Tim,cousin Joe,nephew,neighbor Mr Brown,teacher Mr White")
FEMALE_KIN = words("mother,grandmother,sister,aunt,cousin Beth,cousin Ida,niece,neighbor Mrs Green,teacher Miss Hill")

# place, preposition for being there, tags
_PLACES = """
park|in|out park;beach|on|out water;lake|by|out water;river|by|out water;harbor|at|out water;forest|in|out hill
mountains|in|out hill;valley|in|out hill;meadow|in|out hill park;orchard|in|out farm;farm|on|out farm;village|in|out farm
vegetable garden|in|out farm;playground|at|out park;town square|in|out street;old town|in|out street;night market|at|out street eat
zoo|at|out zoo;botanical garden|in|out park;fairground|at|out fun;stadium|at|out sport;library|in|in study;museum|in|in show
art gallery|in|in show;science center|at|in show;aquarium|at|in aqua;planetarium|at|in show;bookstore|in|in study shop
school|at|in study;classroom|in|in study;supermarket|in|in shop;mall|at|in shop;flower shop|in|in shop;toy store|in|in shop
clothing store|in|in shop;bakery|in|in eat;coffee shop|in|in eat;tea house|in|in eat;noodle shop|in|in eat
pizza place|at|in eat;ice cream parlor|at|in eat;cinema|at|in stage;theater|at|in stage;concert hall|at|in stage
gym|in|in sport;swimming pool|at|in swim;ice rink|at|in ice;train station|at|in trip;airport|at|in trip;bus stop|at|out trip
hospital|in|in help;nursing home|at|in help;pet shop|in|in pet;post office|at|in post;barber shop|at|in hair
community center|at|in club;music school|at|in club
"""


def _places() -> list[dict[str, str]]:
    entries = [entry.strip().split("|") for entry in _PLACES.replace("\n", ";").split(";") if entry.strip()]
    return [{"text": f"the {name}", "loc": f"{where} the {name}", "tags": tags} for name, where, tags in entries]


PLACES = _places()

_PAST = dict(
    entry.split()
    for entry in words("""fly flew,ride rode,take took,feed fed,read read,write wrote,draw drew,swim swam,catch caught,build built,
    see saw,go went,eat ate,drink drank,buy bought,sing sang,play played,watch watched,pick picked,climb climbed,listen listened,
    hear heard,dig dug,plant planted,water watered,sit sat,find found,make made,throw threw,skip skipped,blow blew,try tried,
    study studied,copy copied,hug hugged,plan planned,chat chatted,shop shopped,jog jogged,lie lay,tell told,send sent,
    choose chose,learn learned,bake baked,smell smelled,dance danced,practice practiced,skate skated,compare compared,
    taste tasted,share shared,race raced,borrow borrowed,do did,speak spoke,cut cut,get got,meet met,have had,stroke stroked,
    hold held,wrap wrapped,solve solved,row rowed,pet petted,win won,admire admired,explore explored,say said,put put,bring brought,drive drove,run ran,help helped""")
)
_DOUBLE = set(words("swim,dig,sit,put,run,skip,hug,plan,chat,shop,jog,cut,get,wrap,pet,win"))


def verb(phrase: str) -> dict[str, str]:
    """Return the forms of a verb phrase whose first word is the verb: ``text`` fly a kite, ``past``, ``ing``."""
    head, _, rest = phrase.partition(" ")
    past = _PAST.get(head, head + ("d" if head.endswith("e") else "ed"))
    stem = (
        head + head[-1]
        if head in _DOUBLE
        else "ly"
        if head == "lie"
        else head.removesuffix("e")
        if head[-2:] != "ee"
        else head
    )
    tail = f" {rest}" if rest else ""
    return {"text": phrase, "past": past + tail, "ing": stem + "ing" + tail}


_ACTS = {
    "out": "take some photos,go for a walk,sit in the sun,sing a few songs,draw a picture,listen to music,look at the clouds,tell stories",
    "park": """fly a kite,play badminton,skip rope,play chess,ride a bicycle,throw a frisbee,play hide and seek,feed the pigeons,
        blow bubbles,go jogging,have a picnic,play on the swings,smell the flowers,climb a tree""",
    "water": """swim for a while,row a boat,collect shells,build a sandcastle,watch the sunset,catch some crabs,skip stones,feed the ducks,
        go fishing,watch the boats,look for smooth stones,paint the waves""",
    "hill": """climb a hill,pick berries,look for mushrooms,listen to the birds,put up a tent,pick wildflowers,watch the stars,
        follow a narrow path,collect pine cones,ride a horse,make a campfire""",
    "farm": """pick apples,pick strawberries,dig up potatoes,feed the chickens,plant cabbages,water the tomatoes,collect eggs,
        pick grapes,milk a cow,brush the horses,pull up carrots""",
    "zoo": """watch the monkeys,look at the elephants,feed the deer,look at the pandas,watch the penguins,draw the giraffes,
        photograph the tigers,admire the peacocks""",
    "fun": "ride the Ferris wheel,ride the carousel,drive a bumper car,throw rings,watch the clowns,eat cotton candy,ride the roller coaster",
    "street": "visit the small shops,try some street food,look at the lanterns,photograph the old houses,watch a puppet show,buy postcards",
    "study": "read a book,do some homework,write in a diary,study history,copy a poem,learn new words,look at a map,solve a puzzle,read the news",
    "show": """look at the paintings,listen to the guide,do an experiment,look at the old pots,study the dinosaur bones,watch the robots,
        draw a statue,look at the planets""",
    "aqua": "watch the dolphins,look at the sharks,watch the jellyfish,feed the small fish,follow a sea turtle,look at the seahorses",
    "shop": "choose a present,compare prices,try on some hats,buy a few things,look around,choose a card",
    "eat": "drink tea,have lunch,chat with friends,try a new dish,eat a big breakfast,share a dessert,drink coffee",
    "stage": "watch a film,listen to a concert,watch a play,watch the dancers,listen to the choir,watch a magic show,listen to an opera",
    "sport": "play basketball,play table tennis,practice kung fu,play volleyball,dance for a while,play tennis,run a race,do yoga,play football",
    "swim": "swim a few laps,practice diving,play in the water,learn the backstroke,race across the pool",
    "ice": "skate in circles,play ice hockey,learn to skate backwards,watch the skaters",
    "trip": "wait for a friend,meet a guest,look at the timetable,buy a ticket,watch the travelers,read a magazine",
    "help": "visit a sick friend,bring flowers,tell stories,help the nurses,play cards,sing old songs",
    "pet": "look at the puppies,feed the hamsters,stroke a kitten,choose a fish tank,listen to the parrots",
    "post": "send a letter,send a package,buy stamps,write a postcard,collect a parcel",
    "hair": "get a haircut,wait for a friend,read a magazine,listen to the radio",
    "club": """practice the piano,learn the violin,make a clay pot,sing in the choir,learn to paint,fold paper cranes,practice the flute,
        learn to play chess,write a song""",
}
ACTS = {tag: [verb(entry) for entry in words(text)] for tag, text in _ACTS.items()}

# animal, places' tags, what it was doing
_ANIMALS = """
cat|park street farm post club|sleeping in a corner,chasing its tail,licking its paws,watching a leaf
puppy|park street farm water hill sport|rolling in the grass,chasing a ball,wagging its tail,chewing on a stick
squirrel|park hill|jumping from tree to tree,eating nuts,holding an acorn
pigeon|park street|picking up crumbs,walking in circles,sitting on a roof
duck|water park farm|swimming near the reeds,resting on the bank,looking for food
swan|water park|swimming slowly,spreading its wings,cleaning its feathers
rabbit|park hill farm|eating fresh grass,hiding in the bushes,digging a hole
turtle|water park|resting on a stone,walking very slowly,hiding in its shell
butterfly|park hill farm|dancing over the flowers,resting on a leaf,flying very slowly
sparrow|park street farm sport|singing on a branch,looking for seeds,taking a bath in the dust
swallow|farm street water|flying under the roof,building a nest,racing through the air
frog|water farm|sitting on a leaf,jumping into the water,making a lot of noise
dragonfly|water park farm|resting on a reed,flying low over the water,shining in the light
seagull|water|flying over the waves,stealing some bread,standing on a rock
horse|hill farm|running along the fence,drinking from a stream,eating hay
cow|farm hill|resting under a tree,eating grass,looking over the fence
goat|farm hill|standing on a rock,eating leaves,climbing a wall
hen|farm|looking for worms,walking with its chicks,sitting on its eggs
hedgehog|park hill|rolling into a ball,walking through the leaves,looking for worms
fox|hill|running through the bushes,watching the birds,drinking from a stream
owl|hill farm|sleeping in a tree,turning its head,flying without a sound
"""


def _animals() -> list[dict[str, str]]:
    rows = [line.split("|") for line in _ANIMALS.strip().splitlines()]
    return [{"text": name, "tags": tags, "doing": doing} for name, tags, doing in rows]


ANIMALS = _animals()

# weather as a clause in the past tense, tags
_WEATHER = """
the sun was shining|sun;the sky was blue|sun;it was a sunny day|sun;the weather was fine|sun;there was not a cloud in the sky|sun
it was warm and bright|sun;it was very hot|hot;the sun was burning|hot sun;the air was hot and heavy|hot;it was raining|rain
it was raining hard|rain;a light rain was falling|rain;the rain would not stop|rain;it had just rained|wet;the streets were wet|wet
the wind was strong|wind;a strong wind was blowing|wind;a gentle wind was blowing|breeze;the air was fresh and cool|breeze
it was a little cold|cold;it was freezing|cold;a cold wind was blowing|cold wind;it was snowing|snow cold
snow was falling softly|snow cold;everything was covered with snow|snow cold;there was a thick fog|fog;the fog was thick and white|fog
the sky was gray|cloud;dark clouds were coming|cloud;it was cloudy|cloud;a few white clouds were in the sky|sun breeze
it was neither hot nor cold|breeze;the day was quiet and clear|breeze
"""


def _weather() -> list[dict[str, str]]:
    entries = [entry.strip().split("|") for entry in _WEATHER.replace("\n", ";").split(";") if entry.strip()]
    return [{"text": text, "tags": tags} for text, tags in entries]


WEATHER = _weather()

TABLES: dict[str, list[Word]] = {
    "day": list(
        words("""yesterday,yesterday morning,yesterday afternoon,this morning,this afternoon,last week,last month,last weekend,
        last Saturday,last Sunday,on Monday,on Tuesday,on Wednesday,on Thursday,on Friday,on Saturday morning,on Sunday afternoon,
        one spring morning,one summer day,one autumn afternoon,one winter morning,one day,last summer,on the first day of the holiday,
        on my birthday,two days ago,three weeks ago,early this morning,late in the afternoon,after school,after work,after lunch""")
    ),
    "dur": list(
        words(
            "a while,half an hour,an hour,two hours,a whole morning,a whole afternoon,a long time,twenty minutes,ten minutes"
        )
    ),
    "ride": list(words("by bus,by train,by bicycle,on foot,by taxi,by car,by boat,by subway,by tram")),
    "happy": list(words("happy,glad,cheerful,excited,pleased,proud,grateful")),
    "mood": list(words("wonderful,happy,lovely,perfect,special,quiet,long,exciting,funny,strange")),
    "sad": list(words("sad,worried,nervous,disappointed,afraid,upset,angry,lonely,confused,embarrassed")),
    "adj_animal": list(
        words(
            """cute,beautiful,fat,white,black,gray,brown,tiny,playful,quiet,shy,lively,old,young,friendly,clever,lazy,spotted"""
        )
    ),
    "color": list(words("red,blue,yellow,green,white,black,purple,pink,orange,gray,brown,golden,silver")),
    "fruit": list(words("apples,bananas,oranges,grapes,strawberries,pears,peaches,cherries,mangoes,plums,lemons")),
    "dish": list(
        words("""dumplings,noodles,fried rice,tomato soup,roast chicken,fish and chips,a cheese sandwich,pancakes,pumpkin soup,
        a bowl of salad,beef stew,mushroom pizza,grilled fish,vegetable curry,scrambled eggs,spaghetti,baked potatoes,lentil soup,
        chicken pie,rice and beans""")
    ),
    "snack": list(
        words("""cookies,ice cream,popcorn,chocolate,roasted chestnuts,peanuts,apple pie,lemon cake,pudding,muffins,
        waffles,candy,honey cake,carrot cake,rice crackers""")
    ),
    "drink": list(
        words(
            "hot tea,green tea,milk,orange juice,lemonade,hot chocolate,coffee,apple juice,mint tea,cold water,ginger tea"
        )
    ),
    "cool": list(words("ice cream,cold lemonade,cold watermelon,iced tea,orange juice,cold water,some cold grapes")),
    "warm": list(words("hot tea,hot chocolate,hot soup,warm milk,ginger tea,roasted chestnuts,warm bread")),
    "taste": list(
        words(
            "sweet,delicious,crisp,fresh,soft,a little spicy,very good,warm and tasty,better than ever,a bit salty,wonderful"
        )
    ),
    "lost": list(
        words(
            """wallet,phone,key,hat,watch,schoolbag,umbrella,camera,scarf,notebook,ticket,ring,map,bracelet,pencil case,jacket"""
        )
    ),
    "spot": list(
        words("""under a bench,behind a big tree,near the door,by the stairs,under the table,in the grass,by the road,in a corner,
        next to a fountain,on the steps,by the wall,behind a flowerpot,near the entrance,under an old bridge,beside the fence""")
    ),
    "helper": list(
        words("""an old man,an old woman,a little boy,a little girl,a police officer,a guard,a driver,a young man,a kind lady,
        a tall student,a waiter,a mail carrier,a gardener,a tourist,a musician""")
    ),
    "gift": list(
        words("""a story book,a warm scarf,a bunch of flowers,a music box,a box of chocolates,a blue cup,a painting,a fountain pen,
        a teddy bear,a small plant,a pair of gloves,a picture frame,a birthday card,a silver necklace,a straw hat,a guitar,a football,
        a desk lamp,a kite,a wooden puzzle,a tea set,a toy train,an old map,a pocket watch""")
    ),
    "buy": list(
        words("""some apples,a bag of rice,two bottles of milk,some carrots,three tomatoes,a fish,a dozen eggs,a new sweater,
        a pair of shoes,a dictionary,a paintbrush,a bunch of roses,a new schoolbag,two cinema tickets,a box of tea,a cake,
        some colored pencils,an alarm clock,an umbrella,a loaf of bread,half a watermelon,a jar of honey,some candles""")
    ),
    "wear": list(
        words("""a thick coat,a red sweater,a warm jacket,a long scarf,a wool hat,thick gloves,a gray coat,rubber boots,
        an old raincoat,a blue shirt""")
    ),
    "shelter": list(
        words("""under a roof,under a big tree,in a small pavilion,at a bus stop,in a doorway,under a bridge,in a small cafe,
        in an old barn,under an umbrella""")
    ),
    "skill": list(
        words("""ride a bicycle,swim,make dumplings,play chess,play the piano,play the guitar,bake bread,skate,play tennis,
        paint with watercolors,fold paper planes,fly a kite,knit,take good photos,grow flowers,dance,play the flute,cook noodles,
        juggle,speak French,ride a horse,play the drums,draw animals""")
    ),
    "contest": list(
        words("""running race,chess game,singing contest,drawing contest,swimming race,cooking contest,spelling contest,
        dancing contest,table tennis match,football match,kite contest,quiz,sack race""")
    ),
    "person_seen": list(
        words("""an old man,an old woman,a little boy,a little girl,a painter,a young couple,a tall man,a teacher,
        a musician,a tourist,a young woman,a clown,a street artist""")
    ),
    "doing_seen": list(
        words("""playing the violin,painting a picture,playing chess,selling balloons,walking a dog,playing the harmonica,
        dancing,taking photos,reading a newspaper,feeding the birds,blowing bubbles,singing,doing magic tricks,playing the guitar,
        flying a kite,telling jokes,eating a sandwich,writing a letter,juggling oranges,learning a poem,sleeping in the shade""")
    ),
    "dog": list(words("Buddy,Spot,Max,Daisy,Coco,Biscuit,Lucky,Pepper,Teddy,Rusty,Bella,Snowy")),
    "job": list(
        words("""doctor,teacher,driver,cook,painter,nurse,police officer,engineer,reporter,singer,farmer,scientist,firefighter,
        writer,lawyer,pilot,baker,gardener,sailor,dentist""")
    ),
    "subject": list(words("math,English,history,geography,music,art,science,physics,chemistry,biology")),
    "season": list(words("spring,summer,autumn,winter")),
    "num": list(words("two,three,four,five,six,seven,eight,nine,ten")),
    "bloom": list(words("roses,daisies,tulips,sunflowers,lilies,violets,cherry trees,daffodils,apple trees,poppies")),
    "slow": list(words("slowly,quietly,happily,carefully,patiently,softly,gently,calmly")),
    "book": list(
        words("""a novel,a fairy tale,a history book,a comic book,a book of poems,a science book,a cookbook,an atlas,an old diary,
        a book about the sea,a book about dinosaurs,a book about the stars,a travel magazine,a detective story""")
    ),
    "next": list(words("tomorrow,next week,next weekend,next month,on Friday,on Sunday,next summer,the next day")),
    "thing": list(words("cup,vase,camera,alarm clock,plate,teapot,lamp,mirror,toy car,flowerpot,radio,bicycle")),
    "rank": list(words("first,second,third")),
}
