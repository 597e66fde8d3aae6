"""LibreSeed: signed packages over a hostile network, installed only after every proof held.

The package is layered (``docs/architecture.md``): ``errors limits ids wire`` at the bottom, then ``keys``, ``package``,
``repair``, ``torrent`` and ``dht``, then ``resolve``; all of these are sans-IO. Only ``adapters`` and ``testing`` touch
the world.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
