from gencore.models.adversarial import *  # noqa: F403
from gencore.models.autoregressive import *  # noqa: F403
from gencore.models.diffusion import *  # noqa: F403
from gencore.models.ebm import *  # noqa: F403
from gencore.models.flows import *  # noqa: F403
from gencore.models.hybrids import *  # noqa: F403
from gencore.models.latent import *  # noqa: F403
from gencore.models.video import *  # noqa: F403
