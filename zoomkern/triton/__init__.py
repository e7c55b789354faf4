"""The ops as Triton kernels: for CUDA tensors where no CUDA library was built, and for CPU tensors when interpreted."""
