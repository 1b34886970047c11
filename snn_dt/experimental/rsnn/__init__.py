"""Recurrent spiking networks on small tasks, trained by BPTT, e-prop or reward-modulated Hebb: `snn-dt rsnn`."""
