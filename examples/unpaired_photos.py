"""CycleGAN: patches of a palace get the colours of a flower, without pairs, and come back."""

import sys

import torch
from torch.nn.functional import avg_pool2d

from gencore.data import load_images, to_float
from gencore.metrics import frechet_distance
from gencore.models import CycleGAN
from gencore.nn import PatchDiscriminator, ResNetGenerator
from gencore.objectives import LeastSquaresGame
from gencore.train.figures import save_image_grid

torch.manual_seed(0)
size = {"width": 16, "num_scales": 1, "num_blocks": 2}
maps = [ResNetGenerator(3, 3, **size, normalization="batch") for _ in "xy"]
critics = [PatchDiscriminator(3, num_scales=2, width=16, normalization="none") for _ in "xy"]
model = CycleGAN(*maps, *critics, game=LeastSquaresGame())
players = [torch.optim.Adam(part.parameters(), 1e-3, (0.5, 0.999)) for part in model.children()]
train, test = (load_images("photos", split=split) for split in ("train", "test"))
palace, flower = (to_float(train.images[train.labels == photo], -1, 1) for photo in (0, 1))
for _ in range(300):
    x, y = (patches[torch.randint(len(patches), (8,))] for patches in (palace, flower))
    terms = model(x, y)
    losses = terms.loss, model.discriminator_loss(x, y, terms.fake_x, terms.fake_y)
    for player, loss in zip(players, losses, strict=True):
        player.zero_grad()
        loss.backward()
        player.step()
model.eval()
with torch.no_grad():
    for name, z in {"palace": palace[::4], "translated": model.translate(palace[::4])}.items():
        distance = frechet_distance(avg_pool2d(z, 16), avg_pool2d(flower, 16))
        print(f"{name}: Fréchet distance from the flower, of 16x16 means, is {distance:.2f}")
    x = to_float(test.images[test.labels == 0][1::3], -1, 1)  # a part of the palace not seen before
    back = model.translate_back(y := model.translate(x))
print(f"there and back: mean error {(back - x).abs().mean() / 2:.3f} of the range")
path = sys.argv[1] if len(sys.argv) > 1 else "unpaired_photos.png"
save_image_grid((torch.cat([x, y, back]) + 1) / 2, path, columns=len(x))
