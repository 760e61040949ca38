UPDATE machines SET state = 'pending', state_since = 1700000200000, deadline = NULL
    WHERE mac = '52:54:00:aa:00:02';
INSERT INTO transitions (mac, at, from_state, to_state, cause, actor) VALUES
    ('52:54:00:aa:00:02', 1700000200000, 'discovered', 'pending', 'asks', 'the machine');
