-- Housekeeping deletes a group with its last command from now on. These lost theirs before. The
-- lock keeps a command from being placed in a group between the look and the deletion.
LOCK TABLE "order_groups" IN SHARE ROW EXCLUSIVE MODE;
--> statement-breakpoint
DELETE FROM "order_groups" g WHERE NOT EXISTS (
  SELECT 1 FROM "order_commands" c WHERE c."tenant_id" = g."tenant_id" AND c."group_id" = g."group_id");
