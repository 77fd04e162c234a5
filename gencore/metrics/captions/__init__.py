"""How well captions match those that people gave, and where a model looks as it writes them."""
