"""Time of the Triton kernels alone with the sizes that were chosen, at commit ee52758: `PYTHONPATH=. python lif-chosen.py`."""

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
    f = do_bench(lambda: k.scan_forward(x, None, p), warmup=5, rep=40, return_mode="median")
    bw = do_bench(lambda: k.scan_backward(x, None, gs, None, p), warmup=5, rep=40, return_mode="median")
    print(f"T={T} N={N} forward {1000*f:.1f} backward {1000*bw:.1f} sum {1000*(f+bw):.1f} us, six tensors at copy bandwidth {1500*copy:.1f} us: {(f+bw)/(1.5*copy):.2f}x", flush=True)
