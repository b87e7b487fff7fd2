"""What the offline teacher knows: word lists."""

import re


def _words(text: str) -> frozenset[str]:
  return frozenset(text.split())


# Words that carry no content of their own.
STOP = _words(
  """a an the and or but nor so yet if then than as of in on at by to for from with
  without into onto over under up down out off above below between through across
  near around about against along behind beside during before after while until is
  are was were be been being am do does did done doing has have had having will
  would can could shall should may might must i you he she it we they me him her us
  them my your his its our their this that these those there here who whom whose
  which what where when why how not no nor only just very too also some any each
  every all both few more most other such own same s t ll re ve d m don get gets
  getting one like please let towards toward upon within it's that's there's going
  see seen seems him himself herself itself them themselves something someone etc vs
  per via ok okay really quite"""
)

# Words about the file and not about the picture (rule 4), and the words of a request.
FORMAT = _words(
  """video videos clip clips movie film footage prompt make makes create creates
  generate generates show shows showing depict depicts produce render rendered
  rendering give illustrate visualize describe imagine capture 4k 8k 16k hd uhd fhd
  1080p 720p 2160p fps ratio aspect resolution quality high highly ultra res second
  seconds sec secs minute minutes min long random short length format music sound
  sounds audio voice voiceover soundtrack song hdr octane unreal engine vray
  trending artstation hq hi best masterpiece full extremely super nice amazing
  camera shot shots image images picture pictures photo text font message font
  modern style styles scene scenes"""
)

# Style words that may stand in the request itself ("make a cinematic video of").
STYLES = _words(
  """cinematic realistic photorealistic hyperrealistic surreal surrealistic animated
  cartoon anime pixar disney watercolor claymation 3d 2d cyberpunk steampunk noir
  vintage retro documentary dramatic epic cute funny abstract minimalist futuristic
  psychedelic dreamy gothic comic stop-motion timelapse time-lapse"""
)

# Words in -ing that are no action of what stands before them.
NOT_NOW = _words(
  """king ring wing spring string building painting morning evening ceiling clothing
  lightning wedding viking thing something nothing everything being amazing stunning
  charming bustling interesting relaxing exciting breathtaking mesmerizing
  enchanting dining drawing beijing sterling wearing lighting during including using
  trending shooting bombing beating"""
)

# A comma's item that says how the picture looks and not what is in it: adjectives, and
# nouns at its end.
LOOKS = re.compile(
  r"(?:(?:very|ultra|hyper|super|extremely|highly|photo|extreme)[- ]?)?(?:realistic"
  r"|surreal|detailed|cinematic|photorealistic|hyperrealistic|sci-?fi|retro"
  r"|vintage|epic|dramatic|anime|cyberpunk|futuristic|colou?rful|vibrant|surrealistic"
  r"|minimalist|moody|noir|gothic|dreamy|vivid|sharp|photographic|atmospheric|3d)",
  re.IGNORECASE,
)
LOOK_NOUNS = re.compile(
  r"(?:[\w'’-]+\s+){0,3}(?:details?|lighting|lights?|rendering|render|photography|style"
  r"|effects?|colou?rs?|textures?|aesthetics?|raytracing|depth of field|contrast|tones?"
  r"|palette|grain|atmosphere|composition|shadows?|bokeh|focus|film|design|art|realism)",
  re.IGNORECASE,
)

# Pika and Midjourney flags. A value runs to the next flag.
FLAG = re.compile(
  r"(?:(?<=\s)|^)(?:-{1,2}|[–—]|\.)\s?(ar|fps|gs|seed|motion|neg|negative|no|camera|cam"
  r"|size|style|stylize|v|s|q|c|w|m|ap|cs|chaos|hide|aspect|tile|niji)\b[:=]?",
  re.IGNORECASE,
)
BARE_FLAG = re.compile(
  r"\b(?:ar|aspect ratio)\s*[:=]?\s*\d+\s*:\s*\d+|"
  r"\b(?:16:9|9:16|1:1|4:5|5:4|5:2|21:9|4:3|3:4|2:3|3:2)\b|"
  r"\b\d+(?:\.\d+)?[- ]?(?:seconds?|secs?|minutes?|mins?)\b(?:\s+long\b)?|"
  r"\b(?:gs|fps|seed)\s*[:=]?\s*\d+|"
  r"\bmotion\s?\d\b|\b\d+\s*fps\b|\bMessage:.*?\(Font:[^)]*\)",
  re.IGNORECASE,
)
SOUND = re.compile(
  r",?\s*\b(?:with|and|plus)\s+(?:(?!and\b|with\b)[\w-]+\s+){0,2}"
  r"(?:music|sounds?|audio|soundtrack|voice-?over)\b",
  re.IGNORECASE,
)
QUALITY = re.compile(
  r",?\s*\b(?:(?:in|ultra|super|full|real)[ -])?(?:4|8|16)\s?k\b"
  r"(?:\s*(?:ultra\s*)?(?:u?hd|resolution|res|quality|video)\b)?"
  r"|,?\s*\b(?:(?:in|very|super)\s+)?(?:ultra[ -]|high[ -])?(?:high|hd|full)[ -]"
  r"(?:resolution|quality|definition|hd)\b"
  r"|,?\s*\b(?:uhd|hdr|fhd|hd|1080p|720p|2160p|hq)\b",
  re.IGNORECASE,
)

# Harmful terms and what is written in their place, in the same part of speech so that
# the sentence keeps its grammar. Longer phrases first.
_HARM = {
  r"(?:covered|soaked|drenched|smeared) (?:in|with) (?:\w+ )?blood": "wet with paint",
  r"pool(s?) of blood": r"pool\1 of clear water",
  r"blood (?:every ?where|all over(?: the \w+)?)": "red petals everywhere",
  r"(?:dead|lifeless|mutilated|severed) (?:body|corpse)": "sleeping figure",
  r"(?:dead|lifeless|mutilated|severed) (?:bodies|corpses)": "sleeping figures",
  r"dead (people|m[ae]n|wom[ae]n|soldiers?|child(?:ren)?|girl|boy)": r"sleeping \1",
  r"severed (?:head|hand|arm|limb|leg|finger)(s?)": r"marble sculpture\1",
  r"fight(s?|ing) to the death": r"play\1 a friendly match",
  r"(tear|ripp?)(?:ing) (\w+(?: \w+)?) apart": r"chasing \2 playfully",
  r"(tear|rip)s? (\w+(?: \w+)?) apart": r"chases \2 playfully",
  r"(?:extreme|gory|bloody|psychological|body) horror": "mystery",
  r"terrorist(s?)": r"traveller\1",
  r"(?:psychological )?terror": "suspense",
  r"mass shooting(s?)": r"large gathering\1",
  r"shooting (?:up|at)": "waving at",
  r"shoot(s?) (?:up|at)": r"wave\1 at",
  r"(?:shot|killed|stabbed|beaten|burned|burnt|tortured) to death": "carried to safety",
  r"bleed(s|ing)?(?: (?:out|to death))?": r"rest\1",
  r"blood[- ]?(?:y|ied|stained|soaked|thirsty|splattered)": "colourful",
  r"blood": "red paint",
  r"gory": "colourful",
  r"gore": "red paint",
  r"guts|intestines|entrails": "ribbons",
  r"(?:corpse|cadaver)(s?)": r"statue\1",
  r"(?:serial )?(?:killer|murderer|assassin)(s?)": r"stranger\1",
  r"(?:kill|murder|slaughter|assassinat)ing": "greeting",
  r"(?:kill|murder|slaughter|assassinate)s": "greets",
  r"(?:kill|murder|slaughter|assassinat)ed": "greeted",
  r"kill|murder|slaughter|assassinate": "greet",
  r"massacre(s?)|genocide|carnage|bloodbath": "parade",
  r"massacred": "celebrated",
  r"(?:behead|decapitat)ing": "crowning",
  r"(?:behead|decapitate)s": "crowns",
  r"(?:behead|decapitat)ed": "crowned",
  r"(?:dismember|mutilat)ing": "sketching",
  r"(?:dismember|mutilat)ed": "sketched",
  r"executioner(s?)": r"herald\1",
  r"execution(s?)": r"ceremony",
  r"stabbing": "tapping",
  r"stabs": "taps",
  r"stabbed": "tapped",
  r"stab": "tap",
  r"strangling|choking": "hugging",
  r"strangles|chokes": "hugs",
  r"torturing": "teasing",
  r"tortures": "teases",
  r"tortured": "teased",
  r"torture": "teasing",
  r"(?:commit(?:s|ting)? )?suicide": "a quiet farewell",
  r"(?:machine[- ])?gun ?fire|shootouts?": "fireworks",
  r"(?:machine gun|(?:assault )?rifle|shotgun|handgun|pistol|gun)(s?)": r"camera\1",
  r"(?:gunman|shooter|sniper)": "photographer",
  r"(?:gunmen|shooters|snipers)": "photographers",
  r"shooting(?! (?:stars?|hoops|guard))": "filming",
  r"(?:bomb|grenade|missile|nuke|bombing)(s?)": r"firework\1",
  r"explosion(s?)(?! of (?:colou?rs?|light|confetti))": r"burst\1 of bright light",
  r"rap(?:e|es|ed|ing|ist)": "greeting",
  r"nudes?|naked|topless|undressed": "fully dressed",
  r"nsfw|porn(?:ographic|ography)?|erotic(?:a)?": "family-friendly",
  r"sex(?:ual|ually)?": "dance",
  r"sexy|seductive|horny": "elegant",
  r"seductively": "elegantly",
  r"cocaine|heroin|meth|drugs": "sweets",
  r"drug": "candy",
  r"overdose": "nap",
  r"nazi(s?)": r"actor\1",
  r"hitler": "an old actor",
  r"racist": "grumpy",
  r"racism": "bad manners",
  r"slave(s?)": r"worker\1",
  r"horror(s?)": "mystery",
  r"horrifying|horrific|gruesome|grisly": "curious",
  r"terrifying|terrified|nightmarish": "surprising",
  r"nightmare(s?)": r"dream\1",
  r"disturbing|sinister": "unusual",
  r"zombie(s?)": r"costumed dancer\1",
  r"cannibal(s?)": r"cook\1",
  r"satanic": "theatrical",
  r"violent|brutal": "lively",
  r"violently|brutally": "briskly",
  r"violence|brutality": "liveliness",
  r"wounded|injured": "bandaged",
  r"wound(s?)": r"bandage\1",
  r"attack(ing)": "chasing",
  r"attack(s?)": r"chase\1",
  r"attacked": "chased",
  r"dying": "resting",
  r"beat(?:s|en)? (?:up )?(?:his|her|the|a) (wife|man|woman|kid)": r"hugs the \1",
  r"beating (?:up )?(?:his|her|the|an?) (wife|man|woman|kid)": r"hugging the \1",
  r"punch(?:ing|es)": "high-fiving",
  r"robbing": "visiting",
  r"robs": "visits",
  r"robber(y|ies)": "visit",
  r"kidnapping": "guiding",
  r"kidnaps": "guides",
  r"kidnapper(s?)": r"guide\1",
  r"kidnapped": "guided",
  r"hostage(s?)": r"guest\1",
}
HARM = tuple(
  (re.compile(rf"(?<![\w-])(?:{pattern})(?![\w])", re.IGNORECASE), safe)
  for pattern, safe in _HARM.items()
)
# What no other word makes harmless: the part of the query that holds it is left out.
_SEVERE = (
  r"how to (?:make|build|cook|get|buy) (?:an? )?(?:\w+ )?(?:bomb|drugs?|meth|guns?)",
  r"terror(?:ist)? attacks?",
  r"(?:school|mass) shootings?",
  r"shot in the \w+",
  r"(?:shoot|shoots|shooting|kills|killing) (?:\w+ )?(?:people|civilians|kids)",
  r"dragging a (?:\w+ )?body",
  r"bodies(?: falling)?",
  r"body parts?",
  r"brains on",
  r"(?:burning|drowning|chained|hanged) (?:\w+ )?(?:people|m[ae]n|wom[ae]n|child"
  r"|children|kids?|witch|witches|kittens?|pupp(?:y|ies)|dogs?|cats?)",
  r"burn(?:s|ed|ing)? (?:alive|down|witches|people)",
  r"on fire alive",
  r"(?:people|m[ae]n|wom[ae]n|kids?|child(?:ren)?) (?:chained|on fire|being whipped)",
  r"being whipped",
  r"(?:cut|cuts|cutting|slits?|slitting) (?:her|his|my|their|the) "
  r"(?:arms?|wrists?|throat|opponent)",
  r"the throat of",
  r"in two parts",
  r"beating up",
  r"(?:slaps?|slapping|hits|hitting) (?:his|her|my) \w+",
  r"dog fights?",
  r"firing squad",
  r"human (?:hands?|flesh|meat|hearts?|skulls?)",
  r"like meat",
  r"hanging (?:people|bod(?:y|ies)|m[ae]n)",
  r"(?:no|without) skin",
  r"torture (?:chamber|room|device)s?",
  r"dead driver",
  r"chainsaw",
  r"slasher",
  r"without anesthesia",
  r"(?:women|men|blacks|jews|muslims|immigrants) are (?:too?|all|so) \w+",
  r"(?:as|like) (?:rats|vermin|cockroaches|animals)",
  r"swastikas?",
  r"saluting",
  r"fight(?:s|ing)? with (?:knives|guns)",
  r"(?:twist|break|snap)\w* (?:her|his) neck",
  r"(?:tear|rip)(?:s|ping|ing)? (?:apart|the)",
  r"(?:rotten|rotting) (?:flesh|bod\w+)",
  r"eat(?:s|ing)? (?:an? )?(?:person|human|people|eyes|flesh|corpse)s?(?: alive)?",
  r"explodes? with \w+ inside",
  r"jump(?:s|ing)? from the roof",
  r"(?:rifle|gun|pistol|knife) to (?:his|her|their|a|the)(?: \w+)? (?:head|throat)",
  r"possessed",
  r"sangre|asesin\w+|blut|zerfleisch\w+|mord|sanglant\w*|matar|cadavre",
)
_SEVERE_ANYWHERE = "血|杀|砍|恐怖|尸|окровавлен|маньяк|убий|кров[ьи]|труп"
SEVERE = re.compile(
  rf"(?<![\w-])(?:{'|'.join(_SEVERE)})(?![\w])|{_SEVERE_ANYWHERE}", re.IGNORECASE
)
# What takes the place of a query whose first part is left out.
SAFE_SCENES = (
  "a group of actors rehearses a cheerful scene together",
  "two friends share a quiet, happy moment",
  "a small crowd enjoys a peaceful celebration",
  "a few neighbours help each other and smile",
  "a troupe of street performers practises a gentle dance",
)

# One pass that says whether there is anything to replace.
ANY_HARM = re.compile(
  rf"(?<![\w-])(?:{'|'.join([*_HARM, *_SEVERE])})(?!\w)|{_SEVERE_ANYWHERE}", re.I
)
