"""What a frozen encoder is worth: features once, then classifiers on top of them."""
