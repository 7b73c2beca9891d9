"""Array types and the conventions that every module shares.

Latents are `(batch, length, dim)`; a network that wants channels first transposes inside itself.
Masks are True on real tokens; losses, metrics and statistics ignore the rest.
Times lie in [0, 1]: 0 is data, 1 is noise.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Latents = Float[Tensor, "batch length dim"]
Tokens = Int[Tensor, "batch length"]
Mask = Bool[Tensor, "batch length"]
Times = Float[Tensor, "batch"]
PerText = Float[Tensor, "batch"]
