"""Pictures by address: the one place of the product that asks other machines for anything that data name."""
