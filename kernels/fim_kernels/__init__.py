"""Operations of the forward pass, one pair of files each.

`NAME.py` holds the contract, the formula and the plain PyTorch reference; `NAME_triton.py` beside
it the Triton kernel that must equal it. Callers use `NAME.py`; which of the two runs is decided in
`dispatch.py`. Nothing here imports Triton until a kernel runs.
"""
