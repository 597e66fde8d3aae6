"""A bare libtorrent download with the settings of our own session: what the resolver's fetching is measured against.

usage: bare_libtorrent.py RELEASE.torrent HOST PORT FOLDER [DHT_HOST:PORT]

Downloads only the .tgz and exits when it is there, unverified but for libtorrent's own piece hashes. With a DHT node it
is given no more than that and the info-hash, as by a magnet link: finding the peer and the torrent is part of its work.
"""

from __future__ import annotations

import sys

import libtorrent as lt

from libreseed.adapters.torrent.settings import SessionOptions, session_settings

_DHT = {
    "enable_dht": True,
    "dht_bootstrap_nodes": "",
    "dht_restrict_routing_ips": False,  # all of loopback is one place
    "dht_restrict_search_ips": False,
}


def main() -> None:
    torrent, host, port, folder, *dht = sys.argv[1:]
    session = lt.session(session_settings_for(host) | (_DHT if dht else {}))
    add = lt.load_torrent_file(torrent)
    priorities = priorities_of(add.ti)
    if dht:
        hashes, add = add.ti.info_hashes(), lt.add_torrent_params()
        add.info_hashes = lt.info_hash_t(hashes.v2)
        node, _, number = dht[0].rpartition(":")
        session.add_dht_node((node, int(number)))
    else:
        add.peers = [(host, int(port))]  # connect_peer() would wait for the next second, and flatter us
    add.save_path = folder
    add.file_priorities = priorities
    add.flags &= ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
    add.flags |= lt.torrent_flags.no_verify_files
    session.add_torrent(add)
    while True:
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, (lt.torrent_finished_alert, lt.torrent_error_alert)):
                print(type(alert).__name__)
                return


def priorities_of(info: lt.torrent_info) -> list[int]:
    files = info.layout() if hasattr(info, "layout") else info.files()
    return [4 if files.file_path(index).endswith(".tgz") else 0 for index in range(files.num_files())]


def session_settings_for(host: str) -> dict[str, object]:
    settings = dict(session_settings(SessionOptions(listen=((host, 0),))))
    settings["alert_mask"] = int(lt.alert.category_t.error_notification | lt.alert.category_t.status_notification)
    return settings


if __name__ == "__main__":
    main()
