"""Whether nodes can run one job together is asked of them before any rank starts."""
