import { singulars, wordsOf } from './nouns.ts';

/** COCO's 80 objects, each with the words that CHAIR takes for it. Rohrbach et al. 2018, arXiv:1809.02156, data/synonyms.txt. */
const table = `
person: girl, boy, man, woman, kid, child, chef, baker, people, adult, rider, children, baby, worker, passenger, sister, biker, policeman, cop, officer, lady, cowboy, bride, groom, male, female, guy, traveler, mother, father, gentleman, pitcher, player, skier, snowboarder, skater, skateboarder, foreigner, caller, offender, coworker, trespasser, patient, politician, soldier, grandchild, serviceman, walker, drinker, doctor, bicyclist, thief, buyer, teenager, student, camper, driver, solider, hunter, shopper, villager
bicycle: bike, unicycle, minibike, trike
car: automobile, van, minivan, sedan, suv, hatchback, cab, jeep, coupe, taxicab, limo, taxi
motorcycle: scooter, motor cycle, motorbike, moped
airplane: jetliner, plane, air plane, monoplane, aircraft, jet, airbus, biplane, seaplane
bus: minibus, trolley
train: locomotive, tramway, caboose
truck: pickup, lorry, hauler, firetruck
boat: ship, liner, sailboat, motorboat, dinghy, powerboat, speedboat, canoe, skiff, yacht, kayak, catamaran, pontoon, houseboat, vessel, rowboat, trawler, ferryboat, watercraft, tugboat, schooner, barge, ferry, sailboard, paddleboat, lifeboat, freighter, steamboat, riverboat, battleship, steamship
traffic light: street light, traffic signal, stop light, streetlight, stoplight
fire hydrant: hydrant
stop sign:
parking meter:
bench: pew
bird: ostrich, owl, seagull, goose, duck, parakeet, falcon, robin, pelican, waterfowl, heron, hummingbird, mallard, finch, pigeon, sparrow, seabird, osprey, blackbird, fowl, shorebird, woodpecker, egret, chickadee, quail, bluebird, kingfisher, buzzard, willet, gull, swan, bluejay, flamingo, cormorant, parrot, loon, gosling, waterbird, pheasant, rooster, sandpiper, crow, raven, turkey, oriole, cowbird, warbler, magpie, peacock, cockatiel, lorikeet, puffin, vulture, condor, macaw, peafowl, cockatoo, songbird
cat: kitten, feline, tabby
dog: puppy, beagle, pup, chihuahua, schnauzer, dachshund, rottweiler, canine, pitbull, collie, pug, terrier, poodle, labrador, doggie, doberman, mutt, doggy, spaniel, bulldog, sheepdog, weimaraner, corgi, cocker, greyhound, retriever, brindle, hound, whippet, husky
horse: colt, pony, racehorse, stallion, equine, mare, foal, palomino, mustang, clydesdale, bronc, bronco
sheep: lamb, ram, goat, ewe
cow: cattle, oxen, ox, calf, holstein, heifer, buffalo, bull, zebu, bison
elephant:
bear: panda
zebra:
giraffe:
backpack: knapsack
umbrella:
handbag: wallet, purse, briefcase
tie: bow, bow tie
suitcase: suit case, luggage
frisbee:
skis: ski
snowboard:
sports ball: ball
kite:
baseball bat:
baseball glove:
skateboard:
surfboard: longboard, skimboard, shortboard, wakeboard
tennis racket: racket
bottle:
wine glass:
cup:
fork:
knife: pocketknife, knive
spoon:
bowl: container
banana:
apple:
sandwich: burger, sub, cheeseburger, hamburger
orange:
broccoli:
carrot:
hot dog:
pizza:
donut: doughnut, bagel
cake: cupcake, shortcake, coffeecake, pancake
chair: seat, stool
couch: sofa, recliner, futon, loveseat, settee, chesterfield
potted plant: houseplant
bed:
dining table: table, desk
toilet: urinal, commode, lavatory, potty
tv: monitor, televison, television
laptop: computer, notebook, netbook, lenovo, macbook, laptop computer
mouse:
remote:
keyboard:
cell phone: mobile phone, phone, cellphone, telephone, phon, smartphone
microwave:
oven: stovetop, stove, stove top oven
toaster:
sink:
refrigerator: fridge, freezer
book:
clock:
vase:
scissors:
teddy bear: teddybear
hair drier: hairdryer
toothbrush:
`;

const objects = new Map(
  table
    .trim()
    .split('\n')
    .flatMap((line) => {
      const [node = '', others = ''] = line.split(':');
      return [node, ...others.split(',')].map((word) => [word.trim(), node] as const).filter(([word]) => word !== '');
    }),
);

const animals = ['bird', 'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'animal', 'cub'];

/** Two words that are one thing, and what it is; some only keep their parts from being taken for objects. */
const pairs = new Map([
  ...[...objects.keys()].filter((word) => word.split(' ').length === 2).map((word) => [word, word] as const),
  ...['motor bike', 'home plate', 'train track'].map((word) => [word, word] as const),
  ...animals.flatMap((animal) => ['baby', 'adult'].map((age) => [`${age} ${animal}`, animal] as const)),
  ['passenger jet', 'jet'],
  ['passenger train', 'train'],
  ['bow tie', 'tie'],
  ['toilet seat', 'toilet'],
]);

const known = new Set([...objects.keys(), ...[...pairs.keys()].flatMap((pair) => pair.split(' ')), ...animals]);

/** A word as the vocabulary has it: its singular where that is known. */
const singular = (word: string): string => singulars(word).find((form) => known.has(form)) ?? word;

/** COCO's objects that a caption mentions, one for each mention. */
export function mentionedObjects(caption: string): string[] {
  const words = wordsOf(caption.toLowerCase()).map(singular);
  const merged: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const pair = pairs.get(`${words[i]} ${words[i + 1]}`);
    merged.push(pair ?? words[i] ?? '');
    if (pair !== undefined) i += 1;
  }
  // The seat of a toilet is no chair.
  const toilet = merged.includes('toilet');
  return merged.flatMap((word) => (toilet && word === 'seat' ? [] : (objects.get(word) ?? [])));
}
