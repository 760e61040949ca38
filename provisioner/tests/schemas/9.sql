INSERT INTO revisions (revision, at, actor, why, document, bytes) VALUES
    (1, 1700000100000, 'anna', 'the new rack', '{"group":{"rack-7":{"about":"by the door","labels":{"site":"berlin"},"window":2}}}', 82),
    (2, 1700000200000, 'anna', 'it is slow', '{"defaults":{"blksize":1468},"group":{"rack-7":{"about":"by the door","labels":{"site":"berlin"},"window":4}},"machine":{"52:54:00:aa:00:01":{"groups":["rack-7"],"labels":{"row":"4"},"name":"rack-1"}},"rule":{"new":{"macs":["52:54:00"],"limit":20,"group":"rack-7"}}}', 266);
INSERT INTO machine_names (mac, name) VALUES ('52:54:00:aa:00:01', 'rack-1');
INSERT INTO placed (mac, rule, home, labels, at) VALUES
    ('52:54:00:aa:00:02', 'new', 'rack-7', '{"came":"by rule"}', 1700000300000);
INSERT INTO configuration_state (name, text, number) VALUES
    ('site', '{"chain":"alia-test","key":"1398f62c6d1a457c51ba6a4b5f3dbd2f69fca93216218dc8997e416bd17d93ca","flavours":["gpu"],"quirks":[]}', 0),
    ('placed', '', 3);
UPDATE machines SET hardware = '{"serial":"SN-1","uuid":"11223344-5566-7788-99aa-bbccddeeff01","cpu":"Acme 1","gpus":[],"disks":["nvme-A_1"],"chip":"0303030303030303030303030303030303030303030303030303030303030303"}'
    WHERE mac = '52:54:00:aa:00:01';
UPDATE machines SET pending_hardware = '{"serial":null,"uuid":null,"cpu":"Acme 2","gpus":[],"disks":[],"chip":null}',
    hardware = '{"serial":null,"uuid":null,"cpu":"Acme 1","gpus":[],"disks":[],"chip":null}'
    WHERE mac = '52:54:00:aa:00:02';
INSERT INTO boots (mac, boot_id) VALUES
    ('52:54:00:aa:00:01', '0808080808080808080808080808080808080808080808080808080808080808'),
    ('52:54:00:aa:00:01', '0101010101010101010101010101010101010101010101010101010101010101');
