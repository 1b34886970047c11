"""Energy rules for the module types of this package; see `costs.py`.

B batch, L tokens, Q query tokens, H heads, D width, T simulation steps, G generators.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from snn_dt.energy.costs import Call, Cost, costs, wire
from snn_dt.energy.counts import Count
from snn_dt.models.attention import DendriticRouting, DenseSelfAttention, SpikingSelfAttention
from snn_dt.models.blocks import Block
from snn_dt.models.decay import DecayAttention
from snn_dt.models.dsformer_attention import PSSA, TSSA
from snn_dt.models.embedding import TokenEmbedding
from snn_dt.models.encoders import Convolution, ImageEncoder, SpikeConvolution
from snn_dt.models.heads import PopulationDecode, RateHead
from snn_dt.models.layers import ActionHead, MaskedSequential, SpikeLinear, TimeMean
from snn_dt.models.mixing import LinearSpikeAttention, SoftmaxAttention, SpikeAttention
from snn_dt.models.norms import PTBN
from snn_dt.models.phase_positions import PhaseGate, PhaseGenerators, PhasePositions
from snn_dt.models.positions import SinusoidalPositions
from snn_dt.models.return_code import ReturnCode
from snn_dt.models.spread import ActionSpread
from snn_dt.models.stream_block import StreamBlock
from snn_dt.models.stream_embedding import StreamEmbedding
from snn_dt.models.tokens import Tokens
from snn_dt.snn import Neuron, SpikingLayer
from snn_dt.snn.backends import wide

# Multiply-accumulates of exp, tanh, sin or cos: range reduction and a cubic polynomial.
TRANSCENDENTAL_MACS = 4.0
# LayerNorm per element. Multiply-accumulates: variance, scaling, affine map. Accumulates: mean, centring.
NORM_MACS, NORM_ACS = 3.0, 2.0


wire(nn.Sequential, MaskedSequential, nn.ModuleList, nn.ModuleDict, nn.Identity, nn.Dropout, nn.Flatten, RateHead)
wire(ActionSpread)  # a decision neither computes nor stores it


@costs(SpikingLayer, Neuron, role="neurons")
def neurons(module: SpikingLayer | Neuron, call: Call) -> Cost:
    """One update per neuron and simulation step, with the multiplies of adaptation, and the norm of the current."""
    rate = getattr(module, "sim_steps", 1) / call.steps(call.output)  # spikes per unit of the output
    updates = call.elements(call.output) * rate
    neuron = module.neuron if isinstance(module, SpikingLayer) else module
    own = Count(macs=updates * neuron.macs_per_update, neuron_updates=updates, spikes=call.sum(call.output) * rate)
    norm = getattr(module, "norm", None)
    return own if norm is None else {"": own, "norm": norm_count(call.elements(call.inputs[0]))}


@costs(SpikeLinear, role="synapses")
def spike_linear(module: SpikeLinear, call: Call) -> Cost:
    """One accumulate per spike and output."""
    return Count(acs=_spikes(call, call.inputs[0], module.sim_steps) * module.out_features)


@costs(nn.Linear, role="analogue")
def linear(module: nn.Linear, call: Call) -> Cost:
    """One multiply-accumulate per weight."""
    return Count(macs=call.tokens(call.output) * module.in_features * module.out_features)


@costs(Convolution, role="analogue")
def convolution(module: Convolution, call: Call) -> Cost:
    """One multiply-accumulate per input and output that it is added to. Padding costs nothing."""
    return Count(macs=call.tokens(call.output) * float(module.fan_out().sum()))


@costs(SpikeConvolution, role="synapses")
def spike_convolution(module: SpikeConvolution, call: Call) -> Cost:
    """One accumulate per spike and output that it is added to, fewer at the borders."""
    spikes = call.inputs[0]  # rates [B, K, C H W]
    reached = spikes.to(wide(spikes.device)) @ module.fan_out().to(spikes.device, wide(spikes.device))  # [B, K]
    return Count(acs=call.number((reached * call.mask(spikes)).sum()) * module.sim_steps)


@costs(ImageEncoder, role="analogue", inside=True)
def image_encoder(module: ImageEncoder, call: Call) -> Cost:
    """One scaling per pixel."""
    pixels = call.inputs[0].shape[-1] - 4 * module.numbers
    return {"pixels": Count(macs=call.tokens(call.output) * pixels)}


@costs(ActionHead, role="analogue")
def action_head(module: ActionHead, call: Call) -> Cost:
    """The linear layer, the `tanh` and scaling of bounded actions, and eligibility traces of online plasticity.

    A decision multiplies each trace by its decay and adds one product. Plasticity also needs the softmax or tanh of the
    output.
    """
    squash = TRANSCENDENTAL_MACS + 1 if module.bounded or module.plastic is not None else 0
    per_output = module.in_features * (1 if module.plastic is None else 3)
    return Count(macs=call.elements(call.output) * (per_output + squash))


@costs(PopulationDecode, role="analogue")
def population_decode(module: PopulationDecode, call: Call) -> Cost:
    """One addition per spike and one scaling per action. Bounded actions also count the spikes: two additions."""
    spikes = call.sum(call.inputs[0]) * module.sim_steps
    return Count(macs=call.elements(call.output), acs=spikes * (2 if module.bounded else 1))


@costs(nn.Embedding, role="analogue")
def lookup(module: nn.Embedding, call: Call) -> Cost:
    """No arithmetic: a row of a table is memory traffic only."""
    return Count()


@costs(nn.LayerNorm, role="analogue")
def layer_norm(module: nn.LayerNorm, call: Call) -> Cost:
    """See `norm_count`."""
    return norm_count(call.elements(call.output))


def norm_count(elements: float) -> Count:
    """Return the cost of a layer norm over `elements` elements."""
    return Count(macs=elements * NORM_MACS, acs=elements * NORM_ACS)


@costs(PTBN, role="analogue")
def folded_norm(module: PTBN, call: Call) -> Cost:
    """No cost: inference folds it into the linear layer before it."""
    return Count()


@costs(nn.ReLU, role="analogue")
def relu(module: nn.ReLU, call: Call) -> Cost:
    """One comparison per element, which costs as much as an addition."""
    return Count(acs=call.elements(call.output))


@costs(nn.Sigmoid, role="analogue")
def sigmoid(module: nn.Sigmoid, call: Call) -> Cost:
    """One exp and one division per element."""
    return Count(macs=call.elements(call.output) * (TRANSCENDENTAL_MACS + 1))


@costs(TimeMean, role="wire")
def time_mean(module: TimeMean, call: Call) -> Cost:
    """One addition per element and simulation step. The mean of spikes is free: they are counted as they are fired."""
    x = call.inputs[0]
    # Only values other than 0 and 1 need a real addition per step.
    analogue = x.dim() == 4 and bool(((x != 0) & (x != 1)).any())
    return Count(acs=call.elements(x)) if analogue else {}


@costs(DenseSelfAttention, SpikingSelfAttention, role="analogue", inside=True)
def attention_branch(module: nn.Module, call: Call) -> Cost:
    """The addition of the attention branch to the residual stream."""
    return {"residual": Count(acs=call.elements(call.output))}


@costs(Block, role="analogue", inside=True)
def block(module: Block, call: Call) -> Cost:
    """The addition of the MLP branch to the residual stream."""
    return {"mlp.residual": Count(acs=call.elements(call.output))}


@costs(TokenEmbedding, role="analogue", inside=True)
def token_embedding(module: TokenEmbedding, call: Call) -> Cost:
    """The additions of positions and of the parts of a merged token. The first token has no previous action."""
    width, mask = call.output.shape[-1], call.inputs[4]
    additions = call.tokens(call.output) * (module.positions is not None)
    steps = mask[:, -call.inputs[1].shape[1] :].sum()  # a decision has one step, but a mask of two
    if module.rtg is not None and module.goal is not None:
        additions += float(steps)
    if module.merged:
        # The state is added at every valid step, the previous action at all but the first.
        additions += float(steps + mask[:, :-1].sum())
    return Count(acs=additions * width)


@costs(PhasePositions, PhaseGate, role="analogue", inside=True)
def phase_generators(module: PhaseGenerators, call: Call) -> Cost:
    """One sine per generator and step. The linear layer or gate behind the spikes is counted separately."""
    generators = call.tokens(call.output) * module.cycles.numel()
    return Count(macs=generators * (1 + TRANSCENDENTAL_MACS), spikes=call.sum(module.spikes(call.inputs[0])))


@costs(SinusoidalPositions, role="analogue")
def sinusoidal(module: SinusoidalPositions, call: Call) -> Cost:
    """One sine or cosine and one gain per element."""
    return Count(macs=call.elements(call.output) * (1 + TRANSCENDENTAL_MACS))


@costs(DendriticRouting, role="analogue", inside=True)
def routing(module: DendriticRouting, call: Call) -> Cost:
    """The means of the heads and their gated sum. The gates are counted separately."""
    elements = call.elements(call.inputs[0])
    return Count(macs=elements, acs=elements)


@costs(SoftmaxAttention, role="analogue")
def dense_attention(module: SoftmaxAttention, call: Call) -> Cost:
    """The scores, the softmax and the weighted sum of values."""
    q, tokens = call.inputs[0], call.inputs[3]
    pairs = call.number(_pairs(call, tokens).sum())
    return {"": Count(macs=2 * pairs * q.shape[-1]), "softmax": softmax_count(pairs * module.n_heads)}


@costs(SpikeAttention, role="synapses")
def spike_attention(module: SpikeAttention, call: Call) -> Cost:
    """One addition per spike of q and key, one per spike of v and query, and the softmax."""
    pairs = _pairs(call, call.inputs[3])
    return {
        "": _spike_products(call, pairs, module.sim_steps),
        "softmax": softmax_count(call.number(pairs.sum()) * module.n_heads),
    }


@costs(LinearSpikeAttention, role="synapses")
def linear_attention(module: LinearSpikeAttention, call: Call) -> Cost:
    """The products of `spike_attention`, and one scaling per output, which depends on the token's index."""
    products = _spike_products(call, _pairs(call, call.inputs[3]), module.sim_steps)
    return products + Count(macs=call.elements(call.output))


@costs(TSSA, role="synapses")
def tssa(module: TSSA, call: Call) -> Cost:
    """Linear attention over concatenated trains: a score counts the coincidences of all simulation steps."""
    q, _, v, tokens = call.inputs
    pairs = _pairs(call, tokens)
    # A spike of q meets all its keys, a spike of v all its queries. pairs [B, Q, L] -> [B, Q] and [B, L].
    products = _fan_out(call, q, pairs.sum(2)) + _fan_out(call, v, pairs.sum(1))
    return Count(macs=call.elements(call.output), acs=products)


@costs(PSSA, role="synapses")
def pssa(module: PSSA, call: Call) -> Cost:
    """One addition per coincidence of k and v and query in whose window it lies. Spikes of q gate the sum."""
    q, k, v, tokens = call.inputs
    # Pairs of valid tokens [B, Q, L], the same for all heads.
    pairs = module.pairs(tokens)[:, 0] & call.mask(q)[..., None] & call.mask(k)[:, None]
    return Count(acs=_fan_out(call, k * v, pairs.sum(1)))  # coincidences [(T,) B, L, D]


@costs(DecayAttention, role="synapses")
def decay_attention(module: DecayAttention, call: Call) -> Cost:
    """Decay of the state, additions of k and v coincidences, reads by spikes of q, and the gain of the output."""
    q, k, v = call.inputs[:3]
    width = q.shape[-1] // module.n_heads
    # Spikes per head: [(T,) B, L, D] -> [(T,) B, L, H]. k^T v has one coincidence for each pair of them.
    k_heads, v_heads = (x.unflatten(-1, (module.n_heads, -1)).sum(-1) for x in (k, v))
    # The state of a head is a matrix [d, d], so each output element has d entries that decay.
    decay = call.elements(call.output) * width
    return Count(macs=decay + call.elements(call.output), acs=call.sum(k_heads * v_heads) + call.sum(q) * width)


@costs(StreamBlock, role="analogue", inside=True)
def stream_block(module: StreamBlock, call: Call) -> Cost:
    """The additions of the attention and MLP branches to the residual stream."""
    return {"residual": Count(acs=2 * call.elements(call.output))}


@costs(ReturnCode, role="analogue")
def return_code(module: ReturnCode, call: Call) -> Cost:
    """One scaling and one tanh per unit."""
    return Count(macs=call.elements(call.output) * (1 + TRANSCENDENTAL_MACS))


@costs(StreamEmbedding, role="analogue", inside=True)
def stream_embedding(module: StreamEmbedding, call: Call) -> Cost:
    """The sum of state and known action, a gain and shift per element, and the sums of those of return and goal."""
    elements = call.elements(call.output)
    known = float(call.inputs[3].sum()) * call.output.shape[-1]
    both = 2 * elements * (module.code is not None and module.goal is not None)
    return Count(macs=elements, acs=known + elements + both)


def softmax_count(scores: float) -> Count:
    """Return the cost of a softmax: one exp and one division per score, and the additions of the denominator."""
    return Count(macs=scores * (TRANSCENDENTAL_MACS + 1), acs=scores)


def _spikes(call: Call, x: Tensor, sim_steps: int) -> Any:
    """Return the number of spikes in trains `[T, B, L, D]` or in rates over `sim_steps` steps."""
    return call.sum(x) * (1 if x.dim() == 4 else sim_steps)


def _pairs(call: Call, tokens: Tokens) -> Tensor:
    """Return which valid query may attend to which valid key, bool `[B, Q, L]`."""
    pairs = tokens.query_mask[:, 0]  # [B, Q, L], the same for all heads
    return pairs & call.real[pairs.shape[1]][..., None] & call.real[pairs.shape[2]][:, None]


def _spike_products(call: Call, pairs: Tensor, sim_steps: int) -> Count:
    q, _, v = call.inputs[:3]
    # pairs [B, Q, L] -> keys of each query [B, Q], and queries of each key [B, L].
    acs = _fan_out(call, q, pairs.sum(2)) + _fan_out(call, v, pairs.sum(1))
    # Rates [B, L, D] hold the mean over simulation steps, trains each step.
    return Count(acs=acs * sim_steps / call.steps(q))


def _fan_out(call: Call, x: Tensor, partners: Tensor) -> Any:
    """Return the sum over the spikes `x [(T,) B, L, D]` of the number of partners `[B, L]` of their tokens."""
    return call.number((x.sum(-1, dtype=wide(x.device)) * partners).sum())
