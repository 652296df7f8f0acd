"""The gallery of the README: python data/build/gallery.py writes data/gallery.webp.

One row a prompt, seeds 0 to 5, none left out.
"""

from PIL import Image, ImageDraw, ImageFont

from minimagen import Imagen
from minimagen.assets import DATA
from minimagen.images import to_pil

PROMPTS = {  # and how each is labelled
    "a kitten playing on the grass": "a kitten playing on the grass",
    "一只小猫在草地上玩耍": "the same in Chinese",
    "a fox in the snow": "a fox in the snow",
    "a rocket to the left of the moon in space": "a rocket to the left of the moon in space",
    "two pandas in the forest": "two pandas in the forest",
    "a blue car in the city at sunset": "a blue car in the city at sunset",
    "an octopus under the water, cartoon style": "an octopus under the water, cartoon style",
    "海上有一艘帆船": "a sailboat at sea, in Chinese",
}


def main(side: int = 128, seeds: int = 6) -> None:
    imagen = Imagen.from_pretrained()
    font = ImageFont.load_default(13)
    sheet = Image.new("RGB", (seeds * (side + 4), len(PROMPTS) * (side + 22)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, (prompt, label) in enumerate(PROMPTS.items()):
        y = row * (side + 22)
        pen.text((2, y + 2), label, "black", font)
        pictures = to_pil(imagen.generate([prompt] * seeds, range(seeds))["sr256"])
        for i, picture in enumerate(pictures):
            small = picture.resize((side, side), Image.Resampling.BOX)
            sheet.paste(small, (i * (side + 4), y + 20))
    sheet.save(DATA / "gallery.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
