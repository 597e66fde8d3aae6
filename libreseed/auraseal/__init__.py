"""Part files that heal themselves, their Huffman code, components, package zip, health index, integrity attributes."""
