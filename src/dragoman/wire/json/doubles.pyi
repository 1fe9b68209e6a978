from decimal import Decimal

def natural_number(text: str) -> float | Decimal:
    """A float whose text has the value of ``text``, or a Decimal. InvalidOperation for an exponent
    that is beyond decimals."""
