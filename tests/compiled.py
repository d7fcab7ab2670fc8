"""What a compiled program asks of LAPACK."""

import re

LAPACK = re.compile("lapack|qr|cholesky|geqrf|orgqr|potrf|syevd|gesdd|getrf|trsm", re.IGNORECASE)


def custom_calls(lowered):
    """Targets of custom calls, as they are asked of XLA, or as XLA asks them of the machine."""
    # The choice is made before LLVM is asked to optimise.
    compiled = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
    return re.findall(r'custom_call_target="([^"]+)"', compiled.as_text())
