BEGIN TRANSACTION;
CREATE TABLE documents (
	stream VARCHAR(64) NOT NULL, 
	name VARCHAR(512) NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (stream, name)
);
INSERT INTO "documents" VALUES('profiler','task@1','{"version": 1, "task": "task@1"}');
CREATE TABLE facts (
	seq INTEGER NOT NULL, 
	stream VARCHAR(64) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	schema INTEGER NOT NULL, 
	wall_s FLOAT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "facts" VALUES(1,'pool-hot','NodeCordoned',1,1.7954901626415405273e+09,'{"node_id": "n1", "by": "ann"}');
INSERT INTO "facts" VALUES(2,'pool-hot','NodeUncordoned',1,1.79549016264279484751e+09,'{"node_id": "n1", "by": "bob"}');
INSERT INTO "facts" VALUES(3,'pool-hot','LeaseGranted',1,1.79549016264328145978e+09,'{"lease": {"lease_id": "l1", "owner": "job", "node_id": "n2", "demand": {"GPU": 0.5}}, "by": "\u00fcnal"}');
INSERT INTO "facts" VALUES(4,'pool-hot','NodeDrainRequested',1,1.79549016264374399183e+09,'{"node_id": "n2", "by": "ann", "deadline_s": 600.0}');
INSERT INTO "facts" VALUES(5,'pool-hot','NodeDrainRefused',1,1.79549016264418339729e+09,'{"node_id": "n2"}');
INSERT INTO "facts" VALUES(6,'pool-hot','LeaseReleased',1,1.79549016264463520047e+09,'{"lease_id": "l1", "by": "\u00fcnal"}');
INSERT INTO "facts" VALUES(7,'pool-cold','NodeCordoned',1,1795490162.64507,'{"node_id": "n9", "by": "ann"}');
CREATE INDEX facts_by_stream ON facts (stream, seq);
COMMIT;
