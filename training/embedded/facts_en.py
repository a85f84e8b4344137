"""What the English conversations know about animals, things, jobs, feelings and the like."""

from __future__ import annotations


def rows(text: str) -> list[list[str]]:
    """Split a table: one row a line, cells between bars."""
    return [line.split("|") for line in text.strip().splitlines()]


# animal, plural, where it lives, what it eats, what it is like
ANIMALS = rows("""
cat|cats|in houses|fish and meat|like to sleep and to catch mice
dog|dogs|with people|meat and bones|are friendly and can guard the house
rabbit|rabbits|in fields|grass and carrots|have long ears and run fast
panda|pandas|in bamboo forests|bamboo|are black and white and look cute
elephant|elephants|in grasslands and forests|grass and leaves|have long trunks and are very strong
monkey|monkeys|in forests|fruit and leaves|are clever and like to climb trees
tiger|tigers|in forests|meat|have stripes and are very strong
lion|lions|in grasslands|meat|are loud and live in groups
giraffe|giraffes|in grasslands|leaves from tall trees|have very long necks
penguin|penguins|near cold seas|fish|cannot fly but swim very well
dolphin|dolphins|in the sea|fish|are clever and like to jump out of the water
duck|ducks|near ponds|plants and small fish|can swim, fly and walk
turtle|turtles|near rivers and ponds|plants and insects|walk slowly and have hard shells
frog|frogs|near ponds|insects|can jump far and swim well
squirrel|squirrels|in trees|nuts and seeds|have big tails and jump from tree to tree
horse|horses|on farms|grass and hay|run fast and can carry people
cow|cows|on farms|grass|are calm and give us milk
sheep|sheep|on hills|grass|have warm wool
hen|hens|on farms|corn and worms|lay eggs
butterfly|butterflies|in gardens|nectar|have beautiful wings
bee|bees|in hives|nectar|work hard and make honey
owl|owls|in trees|mice|sleep by day and fly at night
swallow|swallows|under roofs|insects|fly south in autumn
shark|sharks|in the ocean|fish|have very sharp teeth
""")

# thing with article, what it is for, where one gets it
THINGS = rows("""
an umbrella|keep dry in the rain|the mall
a key|open a door|the key shop
a watch|tell the time|the watch shop
a dictionary|look up words|the bookstore
a pencil|write and draw|the bookstore
a schoolbag|carry books|the mall
a scarf|keep warm in winter|the clothing store
a hat|protect yourself from the sun|the clothing store
a camera|take photos|the camera shop
a phone|talk to people far away|the phone shop
an alarm clock|wake up in the morning|the mall
a cup|drink tea or water|the supermarket
a spoon|eat soup|the supermarket
a pot|cook food|the supermarket
a toothbrush|clean your teeth|the supermarket
a towel|dry your hands and face|the supermarket
a mirror|see yourself|the mall
a lamp|read at night|the mall
a bicycle|ride to places nearby|the bicycle shop
a map|find the way|the bookstore
a ladder|climb to high places|the tool shop
a fridge|keep food fresh|the mall
a broom|sweep the floor|the supermarket
a needle|sew clothes|the clothing store
a stamp|send a letter|the post office
a candle|light a dark room|the supermarket
""")

# job with article, where, what it does
JOBS = rows("""
a doctor|in a hospital|helps sick people
a teacher|at a school|teaches students
a driver|on the road|takes people to many places
a cook|in a restaurant|makes good food
a painter|in a studio|paints beautiful pictures
a nurse|in a hospital|takes care of patients
a police officer|in the streets|keeps people safe
an engineer|in an office|designs machines and bridges
a reporter|for a newspaper|writes the news
a singer|on a stage|sings songs for many people
a farmer|on a farm|grows food and keeps animals
a scientist|in a laboratory|studies how nature works
a firefighter|at a fire station|puts out fires and saves people
a writer|at home|writes books and stories
a lawyer|in an office|helps people with the law
a pilot|in an airplane|flies airplanes
a mail carrier|in the streets|brings letters and packages
a barber|in a barber shop|cuts hair
a librarian|in a library|helps people find books
a baker|in a bakery|bakes bread and cakes
a gardener|in a garden|takes care of plants
a dentist|in a clinic|takes care of teeth
a sailor|on a ship|works on ships
a tailor|in a small shop|makes and mends clothes
""")

# food, is or are, taste, when people eat it
FOODS = rows("""
dumplings|are|hot and tasty|at New Year
noodles|are|warm and soft|at noon
pancakes|are|sweet and soft|in the morning
tomato soup|is|warm and a little sour|in the evening
ice cream|is|cold and sweet|in summer
watermelon|is|sweet and fresh|in summer
hot chocolate|is|sweet and warm|in winter
roasted chestnuts|are|warm and sweet|in autumn
strawberries|are|red and sweet|in spring
bread|is|soft and fresh|every day
fried rice|is|salty and tasty|in the evening
lemon cake|is|sweet and sour|at parties
popcorn|is|crisp and salty|at the cinema
pizza|is|hot and tasty|with friends
""")

ADVICE = rows("""
sad|talk with a good friend or go for a walk
nervous|breathe slowly and tell yourself that it is fine
angry|be quiet for a while and then talk about it
tired|go to bed early and rest well
bored|read a good book or learn something new
afraid|tell your family about it
lonely|call an old friend
worried|make a list and do one thing at a time
disappointed|think of the good things and try again
sick|drink hot water and see a doctor
sleepy|take a short nap
hungry|eat a bowl of noodles or some fruit
thirsty|drink a glass of water
cold|put on a warm coat and drink hot soup
hot|drink cold water and rest under a tree
""")

# weather, what to wear, what to do
WEATHER = rows("""
it rains|take an umbrella and wear boots|read at home
it snows|wear a thick coat and gloves|build a snowman
it is windy|wear a jacket and hold on to your hat|fly a kite
it is sunny|wear a hat|go for a walk in the park
it is hot|wear light clothes and drink a lot of water|go swimming
it is cold|wear warm clothes and a scarf|drink tea at home
it is foggy|walk slowly and be careful|listen to music at home
it is cloudy|take an umbrella with you|visit a museum
""")

SEASONS = rows("""
spring|it gets warmer and the flowers open|fly kites and plant flowers
summer|it is hot and the days are long|swim and eat ice cream
autumn|it is cool and the leaves turn yellow|climb hills and pick fruit
winter|it is cold and it sometimes snows|build snowmen and drink hot tea
""")

OPPOSITES = rows("""
big|small
tall|short
long|short
many|few
fast|slow
cold|hot
new|old
early|late
far|near
black|white
light|heavy
fat|thin
clean|dirty
quiet|loud
happy|sad
easy|difficult
cheap|expensive
left|right
up|down
inside|outside
open|closed
strong|weak
full|empty
dry|wet
""")

COLORS = rows("""
the sky|is|blue
grass|is|green
snow|is|white
a banana|is|yellow
strawberries|are|red
grapes|are|purple
an orange|is|orange
coal|is|black
clouds|are|white
tomatoes|are|red
the sea|is|blue
leaves|are|green
the sun|is|golden
milk|is|white
chocolate|is|brown
elephants|are|gray
""")
WEEK = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
