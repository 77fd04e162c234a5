from gencore.models.video.image_pyramid import image_pyramid
from gencore.models.video.multi_scale_discriminator import MultiScaleDiscriminator
from gencore.models.video.multi_scale_generator import MultiScaleGenerator

__all__ = ["MultiScaleDiscriminator", "MultiScaleGenerator", "image_pyramid"]
