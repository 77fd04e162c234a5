"""What a flow has to be to stand for the prior of latents."""

from gencore.models.flows.flow import Flow

__all__ = ["check_prior"]


def check_prior(owner: str, flow: Flow | None, latent_size: int) -> None:
    """Raise a ValueError unless the flow, if there is one, is over [L], of normal latents, and
    without a context."""
    if flow is None:
        return
    found = (flow.event_shape, flow.latent_shape, flow.base, flow.context_size)
    if found != ((latent_size,), (latent_size,), "normal", 0):
        raise ValueError(
            f"{owner}: the flow is over {list(flow.event_shape)} with {flow.base} latents "
            f"{list(flow.latent_shape)} and a context of {flow.context_size}; expected one over "
            f"[{latent_size}] with normal latents and without a context"
        )
