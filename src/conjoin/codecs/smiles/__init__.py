"""Molecules as SMILES strings <-> events. Chemistry is rdkit's, an optional extra: ``pip install
"conjoin[mol]"``."""
