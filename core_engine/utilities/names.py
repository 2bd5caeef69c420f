"""Random two-word names for runs, such as "brisk-otter"."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

_ADJECTIVES = """
able agile airy alert amber ample apt aqua azure balmy basic bold brave breezy brief bright brisk bronze bubbly busy
calm candid careful casual cheery chipper civil classic clean clear clever cobalt cool copper coral cosy crafty crisp
curious dainty daring dapper dashing deft devoted dreamy droll eager early earnest easy elated electric elegant epic
even exact fabled fair famous fancy fearless festive fine fleet fluent fond frank free fresh friendly frosty gallant
gentle genial gifted gilded glad gleaming golden good graceful grand green handy happy hardy hearty helpful honest
humble ideal indigo ivory jade jaunty jolly jovial joyful keen kind lavish leafy light lilac lively loyal lucid lucky
lunar magenta mellow merry mighty mild mindful misty modest neat new nimble noble olive open orange patient peppy
placid playful pleasant plucky poised polite proud quick quiet radiant rapid ready regal rosy ruby rustic sage serene
sharp shiny silver sincere sleek smart smooth snappy snowy solar solid spry stately steady sterling sunny super swift
tidy tranquil trusty upbeat valiant velvet vivid warm wise witty zesty
""".split()  # noqa: SIM905  # a list literal of so many words fills a page

_NOUNS = """
acorn alder alpaca anchor antelope apple aspen badger bamboo banjo basil beacon beaver beetle birch bison bobcat
breeze brook buffalo bunny butterfly cactus camel canary canyon caribou cedar cello cheetah cherry chestnut clover
comet condor coral cove crane creek cricket curlew cypress daisy dolphin dove dragonfly dune eagle elk elm ember
falcon fern ferret finch firefly fjord flamingo fox galaxy garnet gazelle gecko geyser giraffe glacier grove gull
hamster harbor hare hawk hazel heron hickory hill hornet iguana island ivy jackal jaguar jasmine jay juniper kestrel
kingfisher koala lagoon lake lantern larch lark lemur lily linnet lion llama lobster lotus lynx magpie mallard manatee
mango maple marble marigold marlin marmot meadow meteor minnow mole moose moth narwhal newt oak oasis ocelot octopus
orchard orchid oriole osprey otter owl panda panther parrot peacock pebble pelican penguin petrel pine plover pony
poplar prairie puffin quail quartz rabbit raccoon raven reef river robin rowan salmon sandpiper seal sequoia sparrow
spruce squirrel starling stork summit swallow swan tapir tern thistle thrush tiger toucan trout tulip turtle valley
violet walnut walrus willow wombat wren yak zebra
""".split()  # noqa: SIM905  # as above

# A generator of our own: a user who seeds `random` wants neither equal run names nor numbers missing from the series.
_random = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)  # else parent and child would go on with the same names


def generate_run_name() -> str:
    """Returns a random name of an adjective and a noun, joined by a dash. Names may repeat."""
    number = int(_random.random() * len(_ADJECTIVES) * len(_NOUNS))
    return f"{_ADJECTIVES[number % len(_ADJECTIVES)]}-{_NOUNS[number // len(_ADJECTIVES)]}"


if not TYPE_CHECKING:  # who checks types finds an unknown name by itself

    def __getattr__(name: str) -> Any:
        from core_engine.vocabulary import absent

        raise absent(__name__, name)
