"""The sentences that the offline teacher adds to a query, by what the query is about.

Each bank is (pattern of a query that it suits, sentences). The first bank that suits is
used, so special ones come first and the last suits all.
"""

import re


def _bank(pattern: str, *sentences: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
  words = rf"\b(?:{pattern})\b" if pattern else ""
  return re.compile(words, re.IGNORECASE), sentences


# Where a short query names no place.
PLACES = (
  _bank(
    "outer space|planets?|galaxy|astronauts?|alien|aliens|spaceship|stars|ufo",
    "against a deep field of stars",
    "high above a pale blue planet",
    "near the rim of a silent moon",
  ),
  _bank(
    "fish|whales?|sharks?|mermaids?|jellyfish|turtles?|octopus|coral|dolphins?",
    "in clear blue water",
    "above a reef full of colour",
    "in a shaft of light below the surface",
  ),
  _bank(
    "ships?|boats?|surfers?|surfing|pirates?|sailing|waves",
    "on a wide, rolling sea",
    "close to a rocky coast",
    "on calm water near a small harbour",
  ),
  _bank(
    "cars?|trucks?|motorcycles?|bikes?|bus|taxi|tesla|ferrari|train|racing",
    "on a long, empty road",
    "on a wide avenue between tall trees",
    "on a road that winds through low hills",
  ),
  _bank(
    "cats?|kittens?|dogs?|pupp(?:y|ies)|rabbits?|hamsters?|bab(?:y|ies)|kids?|child",
    "in a bright, tidy living room",
    "on the grass of a small garden",
    "beside a sunny window",
  ),
  _bank(
    "lions?|tigers?|bears?|wol(?:f|ves)|fox(?:es)?|horses?|elephants?|deer|pandas?|birds?"
    "|eagles?|owls?|monkeys?|dinosaurs?|giraffes?|animals?",
    "in a wide meadow with a line of trees behind",
    "at the edge of a quiet forest",
    "on open grassland below distant hills",
  ),
  _bank(
    "dragons?|wizards?|witch(?:es)?|fair(?:y|ies)|elf|elves|knights?|king|queen|princess"
    "|castles?|unicorns?|warriors?|samurai|vikings?",
    "among the mossy stones of an old castle",
    "in a valley with a winding river",
    "at the edge of an ancient wood",
  ),
  _bank(
    "food|cake|pizza|burger|coffee|tea|bread|fruit|soup|chocolate|cooking|chef|wine|eggs?",
    "on a worn wooden table",
    "in a warm, busy kitchen",
    "on a marble counter by a window",
  ),
  _bank(
    "robots?|cyborgs?|android|hologram|futuristic|cyberpunk|sci-?fi|ai|machines?",
    "in a hall of glass and brushed steel",
    "on a walkway lined with soft neon",
    "in a clean white laboratory",
  ),
  _bank(
    "flowers?|roses?|trees?|plants?|butterfl(?:y|ies)|bees?|leaves|garden",
    "in a garden wet with dew",
    "in a sunlit clearing",
    "against a soft green background",
  ),
  _bank(
    "man|woman|girl|boy|men|women|people|person|couple|family|friends|lady|guy|dancer"
    "|teacher|old|young|he|she|student|businessman|players?|singer|boys|girls|wife|mother",
    "in a quiet square lined with trees",
    "in an open courtyard with pale stone walls",
    "on a street with small shops",
    "in a large room with tall windows",
  ),
  _bank(
    "city|cities|towers?|buildings?|skyscrapers?|houses?|village|streets?|temple|church",
    "under a wide, open sky",
    "with low hills in the distance",
  ),
  _bank(
    "",
    "against a simple, uncluttered background",
    "under a wide, open sky",
    "in a calm, spacious setting",
  ),
)

# The light, by hour, weather and look.
LIGHTS = (
  _bank(
    "night|midnight|moon|moonlight|moonlit|stars|starry|neon"
    "|dark(?= (?:sky|room|alley|forest|street|mood|scene))",
    "Cool moonlight outlines the shapes, and a few warm lamps glow in the distance.",
    "The night is clear, and soft pools of light separate the subject from the dark.",
    "Deep blue shadows surround the scene, broken by small points of warm light.",
    "A pale glow from above picks out the edges while the background stays dark.",
  ),
  _bank(
    "sunsets?|dusk|evening|golden hour|twilight",
    "The low sun paints everything in amber and rose, and long shadows stretch away.",
    "Warm evening light comes from the side and gives every edge a golden rim.",
    "The sky shifts from orange to violet, and its colours return in every surface.",
  ),
  _bank(
    "sunrise|dawn|morning",
    "Soft morning light spreads from the horizon, and a thin mist slowly clears.",
    "The first rays of the sun come in low and turn the air pale gold.",
    "Fresh early light falls across the scene and makes the colours clear and clean.",
  ),
  _bank(
    "rain|rainy|raining|storm|stormy|thunder|lightning|fog|foggy|mist|misty|clouds?",
    "Grey, even light filters through heavy clouds and shines on every wet surface.",
    "The air is damp and hazy, so that distant shapes fade into soft silver tones.",
    "Clouds move overhead, and the light changes gently from dim to bright.",
  ),
  _bank(
    "snow|snowy|winter|ice|icy|frozen|christmas",
    "Cold, clear light lies over the white surfaces and leaves pale blue shadows.",
    "Small flakes drift through the still air, and the light is soft and even.",
    "The winter sun hangs low, and every crystal of frost sparkles.",
  ),
  _bank(
    "outer space|planets?|galaxy|astronauts?|space ?ships?|starships?|ufo|cosmos",
    "A distant sun lights one side sharply and leaves the other in deep shadow.",
    "Faint blue and violet light from a far nebula fills the background.",
    "Points of starlight glitter all around, steady and sharp.",
  ),
  _bank(
    "underwater|under ?water|ocean floor|reef|sharks?|whales?|mermaids?|coral",
    "Sunbeams sink through the water and ripple over every surface.",
    "Blue light fades with depth, and tiny bubbles rise and glint.",
  ),
  _bank(
    "room|kitchen|office|inside|interior|indoors?|house|restaurant|library|bar|cafe|studio|table",
    "Soft light from a tall window falls across the room and leaves gentle shadows.",
    "Warm lamps fill the space with an even glow and bring out the textures.",
    "The light is calm and warm, with a brighter patch where the subject is.",
  ),
  _bank(
    "horror|mystery|scary|creepy|dark mood|haunted|ghosts?|gloomy|eerie|suspense",
    "Dim, bluish light and slow drifting mist give the scene a quiet mystery.",
    "A single soft lamp leaves most of the background in gentle shadow.",
  ),
  _bank(
    "cartoon|anime|animated|animation|pixar|disney|comic|2d|manga",
    "Flat, bright colours and clean outlines keep every shape easy to read.",
    "Soft shading and cheerful colours give the drawing depth.",
    "The background is painted in light pastel tones behind crisp outlines.",
  ),
  _bank(
    "",
    "Soft daylight falls from the left and brings out texture and colour.",
    "Warm afternoon light fills the scene and leaves long, gentle shadows.",
    "Clear, natural light makes the colours rich without harsh contrast.",
    "The light is bright and even, and the background falls softly out of focus.",
    "Sunlight breaks through from above and gives the edges a thin bright rim.",
    "A gentle haze softens the background and makes the foreground stand out.",
    "Bright patches and cool shade alternate and give the space depth.",
    "Diffuse light from an overcast sky keeps the tones even and true.",
    "A warm light in the foreground sets off the cooler colours further back.",
    "Light glances off the nearest surfaces and fades towards the edges.",
  ),
)

# What moves, and small things to look at.
DETAILS = (
  _bank(
    "danc(?:e|es|ing|ers?)|ballet|flamenco",
    "Every step follows the last in an easy rhythm, and loose fabric swings with it.",
    "Arms and feet move in time, quick at first and then slow and graceful.",
    "The movement is light and joyful, with clear turns and short, still poses.",
  ),
  _bank(
    "outer space|planets?|galaxy|astronauts?|(?:space|star|alien) ?ships?|ufo|rocket",
    "Everything turns slowly and without weight, and small particles drift past.",
    "Fine metal panels and tiny lights give a sense of great size.",
  ),
  _bank(
    "cars?|trucks?|motorcycles?|bikes?|bus|taxi|tesla|train|racing|driv(?:e|es|ing)",
    "Reflections slide over the polished surface, and fine dust curls up behind.",
    "The wheels turn smoothly, and the roadside streams past in a soft blur.",
    "Chrome and glass catch the light as the speed builds steadily.",
  ),
  _bank(
    "ocean|sea|beach|river|lake|waterfall|waves?|boats?|ships?|surf(?:ing|er)?",
    "Small waves roll and break, and drops of spray hang for an instant in the air.",
    "The water moves in slow, glassy folds and throws back broken light.",
    "Ripples spread in widening rings, and their reflections tremble.",
  ),
  _bank(
    "cats?|kittens?|dogs?|pupp(?:y|ies)|lions?|tigers?|bears?|wol(?:f|ves)|fox(?:es)?|"
    "horses?|pandas?|rabbits?|monkeys?|deer|elephants?|animals?|giraffes?|hamsters?",
    "Fine hairs stir in the breeze, and the ears turn towards small noises.",
    "The eyes are bright and alert, and soft muscle moves under the coat.",
    "The body moves with relaxed ease, and every strand of fur is easy to see.",
  ),
  _bank(
    "birds?|eagles?|owls?|parrots?|crows?|fly|flies|flying|butterfl(?:y|ies)|dragons?",
    "Wings open and close in a slow, strong rhythm, with the air moving underneath.",
    "The flight is smooth, with a gentle bank to one side and a long glide.",
    "Light passes through the thin edges as they move up and down.",
  ),
  _bank(
    "food|cake|pizza|burger|coffee|tea|bread|fruit|soup|chocolate|cook(?:ing|s)?|chef",
    "A thin thread of steam rises and curls, and the surface glistens.",
    "Crumbs, drops and soft edges are shown in close, appetising detail.",
  ),
  _bank(
    "robots?|cyborgs?|cyberpunk|futuristic|machines?|computers?|hologram|sci-?fi|neon",
    "Small lights blink along the surfaces, and joints and panels shift exactly.",
    "Reflections of coloured signs slide across glass and metal.",
  ),
  _bank(
    "crowd|people|party|concert|market|festival|soldiers?|army|group|team|players?",
    "The figures move at their own pace, some near and sharp, some far and soft.",
    "Faces turn, hands are raised, and bright clothes stand out from the background.",
  ),
  _bank(
    "city|cities|streets?|towers?|buildings?|skyscrapers?|village|town|houses?",
    "Windows catch the light one after another, and small figures pass below.",
    "Traffic and people move in the distance, while the foreground stays calm.",
    "Rooftops, wires and signs form layers that lead the eye into the distance.",
  ),
  _bank(
    "forest|trees?|jungle|garden|flowers?|roses?|grass|field|meadow|mountains?|plants?",
    "Leaves and grass sway in a light wind, and specks of pollen float past.",
    "A breeze moves through the plants in slow waves, and drops of dew shine.",
    "Every leaf, stone and petal is shown with fine, natural texture.",
  ),
  _bank(
    "man|woman|girl|boy|men|women|person|couple|lady|guy|child|kids?|old|he|she|king|queen"
    "|doctor|singer|teacher|warrior|model|student|princess|wizard|father|mother|family",
    "The face is calm and expressive, and the clothes fold and move naturally.",
    "Hands and eyes move with purpose, and loose hair lifts in the breeze.",
    "Each gesture is unhurried and natural, with a small smile at the end.",
    "The posture is relaxed, and fine creases show in the fabric with each movement.",
  ),
  _bank(
    "",
    "The movement is slow and continuous, so that each shape is easy to follow.",
    "Small particles drift through the air and give the scene depth.",
    "Textures are crisp in the foreground and soften towards the back.",
    "Shapes shift gradually, and their reflections follow a moment later.",
    "One thing happens after another, with a short pause between.",
    "Near things pass quickly, while those far away hardly move.",
    "Fine marks, folds and edges are visible wherever the eye rests.",
    "A light breeze sets the smaller things in motion.",
    "The action builds gently and comes to rest near the end.",
    "Contours are clean, and every surface has a texture of its own.",
  ),
)

# What the camera does when the query does not say.
CAMERAS = (
  "The camera moves forward slowly and keeps the subject in the centre.",
  "The camera glides sideways at a steady pace and reveals more of the surroundings.",
  "The camera stays still at eye level and lets the action cross the frame.",
  "The camera circles in a slow, smooth arc at waist height.",
  "The camera begins close and draws back gradually until the whole scene is in view.",
  "The camera rises gently and ends with a wide view from above.",
  "The camera follows from a short distance with a smooth, even motion.",
  "The camera starts low, near the ground, and tilts up by degrees.",
  "The camera holds a medium view with a shallow depth of field.",
  "The camera drifts slowly from the background to the subject.",
)
# When the query speaks of the camera itself.
STEADY = (
  "The framing is steady and balanced, with the subject sharp throughout.",
  "The view is smooth and stable, and focus stays on the subject.",
  "The motion of the view is even, without sudden cuts.",
)
# What a camera flag asks for; {moves} is "zooms in and pans left".
FLAGGED = (
  "The camera {moves} at a slow, steady pace.",
  "The camera {moves} smoothly and keeps the subject in the frame.",
  "In one even motion, the camera {moves}.",
)

# Where the query names a style; {style} is "cinematic and retro".
STYLED = (
  "The whole picture has a {style} look with rich, balanced colours.",
  "The look is {style}, with careful composition and fine detail.",
)
ENDINGS = (
  "The mood is calm and inviting.",
  "The colours are natural and well balanced.",
  "The overall impression is vivid and clear.",
  "The picture is sharp, with a gentle contrast between near and far.",
  "The composition is simple and leaves room for the movement.",
  "The atmosphere is peaceful, with a touch of wonder.",
  "The scene ends on a quiet, balanced view.",
  "The palette is restrained, with one bright accent.",
  "Nothing in the frame distracts from what happens.",
  "The whole feels warm, simple and alive.",
  "Depth and proportion are natural, and edges stay crisp.",
  "A quiet sense of expectation runs through the scene.",
  "The colours deepen slightly towards the end.",
)


def pick(banks, text: str) -> tuple[str, ...]:
  """The sentences of the first bank that suits a text."""
  return next(sentences for pattern, sentences in banks if pattern.search(text))
