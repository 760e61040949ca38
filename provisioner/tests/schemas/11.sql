INSERT INTO console (mac, boot_id, source, sequence, at_ms, received, level, missing, text) VALUES
    ('52:54:00:aa:00:01', '0101010101010101010101010101010101010101010101010101010101010101', 'kernel', 0, 12, 1700000600000, 6, 0, 'Linux version 6.12'),
    ('52:54:00:aa:00:01', '0101010101010101010101010101010101010101010101010101010101010101', 'kernel', 5, 90, 1700000600000, 3, 4, 'nvme0: timeout'),
    ('52:54:00:aa:00:01', '0101010101010101010101010101010101010101010101010101010101010101', 'init', 0, 1500, 1700000600000, NULL, 0, 'the root is there');
INSERT INTO console_heads (mac, boot_id, kernel, init, window_began, taken, refused, kept, bytes, gone) VALUES
    ('52:54:00:aa:00:01', '0101010101010101010101010101010101010101010101010101010101010101', 6, 1, 1700000600000, 3, 0, 3, 49, 17);
UPDATE machines SET readings = '{"milliwatts":90000,"cpu_millidegrees":45000,"cards":[{"address":"0000:01:00.0","name":"Acme X","milliwatts":60000,"millidegrees":50000}]}',
    readings_at = 1700000600000, milliwatts = 90000
    WHERE mac = '52:54:00:aa:00:01';
