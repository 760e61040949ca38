INSERT INTO machines (mac, name, uuid, serial, firmware, boot_mode, address, first_seen, last_seen,
    problem, progress, node, boot_id, release, inventory, node_seen) VALUES
    ('52:54:00:aa:00:01', 'rack-1', '11223344-5566-7788-99aa-bbccddeeff01', 'SN-1', 'uefi', 'pxe',
     '10.0.0.5', 1700000000000, 1700000600000, NULL,
     '{"started":1700000000000,"heard":1700000600000,"boot_id":"0101010101010101010101010101010101010101010101010101010101010101","ready":null,"ended":1700000500000,"stages":[{"name":"dhcp","clock":"server","began":1700000000000,"ended":1700000000500,"state":"done","detail":"10.0.0.5"}]}',
     '8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c', '0101010101010101010101010101010101010101010101010101010101010101', '0202020202020202020202020202020202020202020202020202020202020202',
     '{"system":{"vendor":"Acme","product":"Box","serial":"SN-1","uuid":"11223344-5566-7788-99aa-bbccddeeff01","firmware":"1.0","uefi":true},"cpu":{"model":"Acme 1","threads":8,"features":["avx2"],"microcode":"0xf4","vulnerabilities":[]},"memory_bytes":8589934592,"pci":[],"nics":[],"disks":[],"gpus":[],"undriven":[]}',
     1700000600000);
INSERT INTO machines (mac, name, first_seen, last_seen, problem) VALUES
    ('52:54:00:aa:00:02', 'node-aa0002', 1700000100000, 1700000200000, 'its iPXE is for i386');
INSERT INTO leases (address, mac, expires) VALUES (167772165, '52:54:00:aa:00:01', 4000000000);
INSERT INTO leases (address, mac, expires) VALUES (167772166, NULL, 4000000000);
INSERT INTO events (mac, at, kind, text) VALUES
    ('52:54:00:aa:00:01', 1700000000000, 'dhcp', 'DISCOVER'),
    ('52:54:00:aa:00:01', 1700000600000, 'enrol', 'taken in'),
    ('52:54:00:aa:00:02', 1700000200000, 'refused', 'its iPXE is for i386');
INSERT INTO reports (mac, boot_id, sequence) VALUES ('52:54:00:aa:00:01', '0101010101010101010101010101010101010101010101010101010101010101', 7);
