"""Variants of the Triton kernels: neurons of a program, warps, steps ahead. As it was run at commit d51b5ea, whose
`triton_kernels` has SIZES = ((least, neurons, warps), ...) and STAGES: `PYTHONPATH=. python lif-kernels.py` there."""

import itertools

import torch
from triton.testing import do_bench

from snn_dt.snn import triton_kernels as k
from snn_dt.snn.parameters import LIFParameters

p = LIFParameters(tau_mem=2.0)
for T, N in ((4, 491520), (10, 491520), (25, 491520), (100, 8192), (1000, 8192)):
    g = torch.Generator().manual_seed(0)
    x = (0.95 * torch.randn(T, N, generator=g)).cuda()
    gs = torch.randn(T, N, generator=g).cuda()
    buf = torch.empty(2, 2, T, N, device="cuda")
    copy = do_bench(lambda: buf[0].copy_(buf[1]), warmup=5, rep=40, return_mode="median")
    res = []
    blocks = (
        ((256, 4), (128, 4), (512, 4), (1024, 8)) if N > 100000 else ((32, 1), (64, 1), (64, 2), (128, 4), (256, 4))
    )
    for (b, w), st in itertools.product(blocks, (1, 4, 8, 16)):
        k.SIZES, k.STAGES = ((0, b, w),), st
        f = do_bench(lambda: k.scan_forward(x, None, p), warmup=5, rep=25, return_mode="median")
        bw = do_bench(lambda: k.scan_backward(x, None, gs, None, p), warmup=5, rep=25, return_mode="median")
        res.append((f + bw, f, bw, b, w, st))
    res.sort()
    print(f"T={T} N={N} copy(4 tensors)={copy * 1000:.1f}us floor6={copy * 1500:.1f}us")
    for r in res[:4] + res[-2:]:
        times = tuple(1000 * t for t in r[:3])
        print("   sum %.1f fwd %.1f bwd %.1f us block %d warps %d stages %d" % (*times, *r[3:]))
    print("   as it was: sum %.1f" % (1000 * next(r for r in res if r[3:] == (256, 4, 1))[0]))
