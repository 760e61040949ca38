"""Times OpenBLAS's single-precision product: `kind m k n times` a line, seconds a product back."""
import ctypes, os, sys, time

blas = ctypes.CDLL("libopenblas.so.0")
blas.openblas_get_config.restype = ctypes.c_char_p
blas.openblas_get_corename.restype = ctypes.c_char_p
version = blas.openblas_get_config().decode().split()[1]
print("OpenBLAS", version, blas.openblas_get_corename().decode() + ", one thread", flush=True)

def matrix(count):
    data = (ctypes.c_float * count)()
    for at in range(count):
        data[at] = (at * 7919 % 1000) * 1e-3 - 0.5
    return data

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112
one, zero = ctypes.c_float(1.0), ctypes.c_float(0.0)
kept = {}
for line in sys.stdin:
    kind, *numbers = line.split()
    m, k, n, times = map(int, numbers)
    if (m, k, n) not in kept:
        kept = {(m, k, n): (matrix(m * k), matrix(k * n), matrix(m * n))}
    a, b, c = kept[m, k, n]
    left, a_stride = (TRANSPOSED, m) if kind == "tn" else (PLAIN, k)
    right, b_stride = (TRANSPOSED, k) if kind == "nt" else (PLAIN, n)
    began = time.perf_counter()
    for _ in range(times):
        blas.cblas_sgemm(ROW_MAJOR, left, right, m, n, k, one, a, a_stride, b, b_stride, zero, c, n)
    print((time.perf_counter() - began) / times, flush=True)
